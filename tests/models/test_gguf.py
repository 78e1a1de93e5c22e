"""GGUF files: converted once, by one process, and known by their content."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from warmup_distill.errors import ModelError
from warmup_distill.models.gguf import converted

gguf: Any = pytest.importorskip("gguf")

WIDTH, INNER, HEADS, LAYERS = 16, 24, 2, 1
TOKENS = [chr(ord("a") + i) for i in range(26)] + ["ab", "<|end|>"]


def write_model(path: Path, seed: int = 0) -> Path:
    """A random Llama of a few thousand numbers, whose tokenizer knows the alphabet."""
    writer, rng = gguf.GGUFWriter(path, "llama"), np.random.default_rng(seed)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token.encode() for token in TOKENS])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(len(TOKENS) - 1)
    shapes = {"token_embd": (len(TOKENS), WIDTH), "output_norm": (WIDTH,),
              "output": (len(TOKENS), WIDTH)}  # fmt: skip
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {f"{block}attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        shapes |= {f"{block}attn_norm": (WIDTH,), f"{block}ffn_norm": (WIDTH,)}
        shapes |= {f"{block}ffn_{name}": (INNER, WIDTH) for name in ("gate", "up")}
        shapes |= {f"{block}ffn_down": (WIDTH, INNER)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_model(tmp_path / "model.gguf")


def test_a_file_is_converted_once_and_another_one_again(model: Path) -> None:
    folder = converted(model)
    assert AutoModelForCausalLM.from_pretrained(folder).config.hidden_size == WIDTH
    made = (folder / "config.json").stat().st_mtime_ns
    moved = Path(shutil.copy(model, model.with_name("model-copy.gguf")))
    assert converted(model) == folder and (folder / "config.json").stat().st_mtime_ns == made
    assert converted(moved).name.removeprefix("model-copy") == folder.name.removeprefix("model")
    assert converted(write_model(model, seed=1)) != folder


def test_processes_that_need_one_file_at_the_same_time_all_get_it(model: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from warmup_distill.models.gguf import converted\n"
        "from transformers import AutoModelForCausalLM\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"AutoModelForCausalLM.from_pretrained(converted(Path({str(model)!r})))\n"
    )
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout and process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    left = {path.name for path in (model.parent / "cache/warmup-distill").iterdir()}
    assert len(left) == 2 and ".lock" in left


def test_what_a_killed_conversion_left_is_swept_away(model: Path) -> None:
    left = model.parent / "cache/warmup-distill/.warmup-distill-0123456789abcdef.tmp"
    left.mkdir(parents=True)
    converted(model)
    assert not left.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "seal.json"])
def test_a_converted_model_that_was_changed_is_refused(name: str, model: Path) -> None:
    folder = converted(model)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=f"{name} .*remove that folder"):
        converted(model)
    shutil.rmtree(folder)
    assert converted(model) == folder
