"""The promises of SECURITY.md, each tried."""

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_run import small_recipe

from warmup_distill.errors import ModelError, RecipeError
from warmup_distill.foreign.showing import clean
from warmup_distill.models.chat import encode_prompt
from warmup_distill.models.loading import (
    BUNDLED,
    load_config,
    load_model,
    load_tokenizer,
    require_weights,
)
from warmup_distill.pipeline import run
from warmup_distill.recipe.reading import dump_recipe, load_recipe

CANARY = "hf_CANARYcanaryCANARYcanary0123456789"


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """A copy of the bundled student to tamper with."""
    return Path(shutil.copytree(BUNDLED / "student", tmp_path / "student"))


def test_code_that_comes_with_a_model_is_not_run(student: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    (student / "evil.py").write_text(f"open({str(proof)!r}, 'w')\n", encoding="utf-8")
    config = json.loads((student / "config.json").read_text(encoding="utf-8"))
    names = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model",
             "AutoTokenizer": ["evil.Tokenizer", None]}  # fmt: skip
    (student / "config.json").write_text(json.dumps(config | {"auto_map": names}))
    load_tokenizer(str(student))
    load_model(str(student))
    assert not proof.exists()


def test_a_model_that_needs_its_own_code_is_refused(student: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    (student / "evil.py").write_text(f"open({str(proof)!r}, 'w')\n", encoding="utf-8")
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (student / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(student))
    assert not proof.exists()


class Malicious:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return open, (str(self.proof), "w")


def test_pickled_weights_are_refused_unread(student: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    (student / "model.safetensors").unlink()
    (student / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(proof)))
    with pytest.raises(ModelError, match="pickled weights are never read"):
        require_weights(str(student))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(student))
    assert not proof.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teacher: !!python/object/apply:os.system ['touch proof']", "does not parse as YAML"),
        ("teacher: a\nteacher: b", "given twice"),
    ],
)
def test_yaml_makes_no_objects_and_takes_no_key_twice(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "recipe.yaml")


def test_yaml_aliases_are_not_expanded(tmp_path: Path) -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    text = "\n".join(["a0: &a0 [x]", *levels])
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="aliases written out"):
        load_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", "a\x00b", "." * 70, "\x1b[31m"])
def test_a_benchmark_s_name_cannot_leave_its_folder(name: str) -> None:
    benchmark = {"name": name, "dataset": "bundled:problems", "limit": 1}
    with pytest.raises(ValueError, match="name"):
        small_recipe(evaluate={"benchmarks": [benchmark]})


def test_text_of_models_cannot_steer_a_terminal() -> None:
    assert clean("a\x1b]0;title\x07b\u202ec\x9b1m") == "a]0;titlebc1m"


def test_a_chat_template_cannot_reach_python() -> None:
    tokenizer = load_tokenizer("bundled:student")
    for attack in (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('touch proof').read() }}",
        "{% include '/etc/passwd' %}",
        "{{ messages.append(1) }}",
    ):
        tokenizer.chat_template = attack
        with pytest.raises(ModelError, match="chat template"):
            encode_prompt(tokenizer, "Hello", "chat")


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        ("{% set x = 3**(4*10**7) % 7 %}", "longer"),  # in C, which no signal interrupts
        ("{% for i in range(9999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "longer"),
        ("{{ 'a' * 2000000000 }}", "memory"),
        ("{{ 'a b ' * 50000 }}", "characters"),
    ],
)
def test_a_chat_template_has_limits(
    attack: str, why: str, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmup_distill.models.limits.SECONDS", 2)
    (student / "chat_template.jinja").write_text(attack, encoding="utf-8")
    with pytest.raises(ModelError, match=f"not safe to use: .*{why}"):
        load_tokenizer(str(student))


@pytest.mark.parametrize("place", [0, 4, 8, 16, 24, 32, 200, 5000])
def test_a_broken_gguf_file_is_refused_in_words(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_token_list([b"word"] * 1000)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    whole = path.read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for broken in (whole[:place], whole[:place] + b"\xff" * 16 + whole[place + 16 :]):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match="cannot be read as a GGUF model"):
            load_config(str(path))


def test_nothing_on_disk_holds_a_token_of_the_environment(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(small_recipe()), encoding="utf-8")
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY")
    command = [sys.executable, "-m", "warmup_distill", "run", str(recipe), "--output-dir", "out"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | dict.fromkeys(names, CANARY),
        capture_output=True,
        text=True,
        check=True,
    )
    assert CANARY not in done.stdout + done.stderr
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_a_run_opens_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection to {arguments[1:]} was tried")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    assert (run(small_recipe(), tmp_path / "run") / "report" / "index.html").exists()


def test_nothing_is_pickled_in_a_finished_run(tmp_path: Path) -> None:
    folder = run(small_recipe(), tmp_path / "run")
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
