"""The output layer by itself: the very numbers of the whole model, and nothing else in memory."""

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    Gemma2Config,
    GraniteConfig,
    PhiConfig,
    PreTrainedModel,
)

from warmup_distill.engines.paths import packed_model
from warmup_distill.errors import ModelError
from warmup_distill.models import heads
from warmup_distill.models.heads import load_head
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.heads import Head

SHAPE: dict[str, Any] = {
    "vocab_size": 44, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1,
    "bos_token_id": None, "head_dim": 8,
}  # fmt: skip
CONFIGS = {
    "cohere multiplies": Cohere2Config(**SHAPE, logit_scale=0.25),
    "gemma bends": Gemma2Config(**SHAPE, final_logit_softcapping=2.0),
    "granite divides": GraniteConfig(**SHAPE, logits_scaling=3.0),
    "phi adds": PhiConfig(**SHAPE),
}


def made(kind: str) -> PreTrainedModel:
    """A model whose head is tied, or not, with a bias, or with something after it."""
    if kind in ("llama", "qwen2", "gpt2"):
        return random_model(2, kind)
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", *CONFIGS])
def test_a_head_alone_gives_the_logits_of_its_model(
    kind: str, dtype: Any, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(kind).save_pretrained(tmp_path)
    ref = ModelRef.of(str(tmp_path), dtype)
    whole = packed_model(ref.load(), vocabulary)
    monkeypatch.setattr(heads, "_of_the_whole", None)  # it is not needed here
    head = Head(load_head(ref), whole.model.config, vocabulary)
    states = torch.randn(5, 32, generator=torch.Generator().manual_seed(0)).to(whole.model.dtype)
    with torch.no_grad():
        expected = whole.model.get_output_embeddings()(states)[:, : vocabulary.size].float()
        assert head.logits(states).equal(whole.logits(states))
        assert (head.logits(states) - after(kind, expected)).abs().max() < 1e-6
    assert not any(weights.requires_grad for weights in head.parameters())


def after(kind: str, logits: torch.Tensor) -> torch.Tensor:
    """What a family does to its logits, written down by hand."""
    by_hand = {
        "cohere multiplies": lambda x: x * 0.25,
        "gemma bends": lambda x: 2 * torch.tanh(x / 2),
        "granite divides": lambda x: x / 3,
    }
    return by_hand.get(kind, lambda x: x)(logits)


def test_nothing_of_the_body_stays_in_memory_and_nothing_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model(2).save_pretrained(tmp_path)
    ref = ModelRef.of(str(tmp_path), "float32")
    read: list[str] = []
    opened = heads.safe_open

    class Watching:
        def __init__(self, *arguments: Any, **named: Any) -> None:
            self.file = opened(*arguments, **named).__enter__()

        def __enter__(self) -> "Watching":
            return self

        def __exit__(self, *_: Any) -> None: ...

        def keys(self) -> Any:
            return self.file.keys()

        def get_tensor(self, name: str) -> Any:
            read.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(heads, "safe_open", Watching)
    load_head(ref)
    assert read == ["lm_head.weight"]


def test_files_that_name_their_tensors_in_another_way_are_loaded_whole_and_the_body_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model(2, "gpt2").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = {name.removeprefix("transformer."): t for name, t in load_file(path).items()}
    save_file(weights, path, {"format": "pt"})
    body: list[Any] = []
    load = ModelRef.load
    monkeypatch.setattr(
        ModelRef, "load", lambda ref: (model := load(ref), body.append(weakref.ref(model)))[0]
    )
    found = load_head(ModelRef.of(str(tmp_path), "float32"))
    expected = random_model(2, "gpt2").get_output_embeddings()
    assert found.weight.equal(expected.weight)
    gc.collect()
    assert len(body) == 1 and body[0]() is None


def test_a_model_that_has_changed_is_refused(tmp_path: Path) -> None:
    random_model(2).save_pretrained(tmp_path)
    ref = ModelRef.of(str(tmp_path), "float32")
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"rms_norm_eps": 0.5}))
    with pytest.raises(ModelError, match="is not the model that this work began with"):
        load_head(ref)
