"""Weights are those of the configuration, or the message names them; nothing is filled in."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_run import small_recipe
from transformers import (
    AutoConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MambaConfig,
    MptConfig,
)

from warmup_distill.engines.paths import path_ahead
from warmup_distill.errors import ModelError
from warmup_distill.models.loading import (
    BUNDLED,
    UNBOUNDED,
    blank_model,
    context_of,
    load_config,
    load_model,
)
from warmup_distill.models.weights import stored_dtype
from warmup_distill.planning.page import plan
from warmup_distill.scoring.reward import RewardModel
from warmup_distill.stages.models_ahead import expected_path, require_models

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def student(tmp_path: Path) -> Path:
    folder = tmp_path / "student"
    shutil.copytree(BUNDLED / "student", folder)
    return folder


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def set_fields(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {k: v for k, v in tensors.items() if part not in k}


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + k: v for k, v in tensors.items()}


def shards(folder: Path) -> None:
    """Two shards of the weights, of which the second is gone."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    first = {name: tensors[name] for name in names[: len(names) // 2]}
    save_file(first, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    where = {n: f"model-0000{1 if n in first else 2}-of-00002.safetensors" for n in names}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": where})
    )


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "compiled": (lambda f: rewrite(f, prefixed("_orig_mod.")), r"_orig_mod\.model.* left over"),
    "data parallel": (lambda f: rewrite(f, prefixed("module.")), r"module\.model.* left over"),
    "no norms": (lambda f: rewrite(f, without("norm")), r"layernorm\.weight.* and 4 more are miss"),
    "one tensor less": (lambda f: rewrite(f, without("0.mlp.up_proj")), r"up_proj\.weight is miss"),
    "fewer layers": (lambda f: set_fields(f / "config.json", num_hidden_layers=2), "left over"),
    "more layers": (lambda f: set_fields(f / "config.json", num_hidden_layers=4), "are missing"),
    "another vocabulary": (
        lambda f: set_fields(f / "config.json", vocab_size=500),
        r"embed_tokens\.weight is \[479, 64\] in the file and \[500, 64\] in the model",
    ),
    "another width": (
        lambda f: set_fields(f / "config.json", intermediate_size=100), "of another shape"
    ),
    "a shard gone": (shards, "model-00002-of-00002"),
    "cut": (
        lambda f: (f / "model.safetensors").write_bytes(b"\x08" + bytes(20)), "cannot be loaded"
    ),
    "quantised": (
        lambda f: set_fields(
            f / "config.json", quantization_config={"quant_method": "awq", "bits": 4}
        ),
        "pip install gptqmodel",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_weights_that_do_not_fit_are_named_ahead_of_a_run_and_when_they_are_loaded(
    name: str, student: Path, tmp_path: Path
) -> None:
    spoil, message = FAULTS[name]
    spoil(student)
    for look in (blank_model, load_model):
        with pytest.raises(ModelError, match=message):
            look(str(student))
    _, problems = plan(small_recipe(student=str(student)), tmp_path / "run", measured=False)
    assert any(str(student) in problem for problem in problems)


def test_weights_that_fit_are_found_to_without_being_loaded() -> None:
    model = blank_model("bundled:teacher")
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_a_reward_model_without_a_trained_head_is_refused(student: Path) -> None:
    set_fields(student / "config.json", num_labels=1, id2label={"0": "a"}, label2id={"a": 0})
    with pytest.raises(ModelError, match=r"reward_model.*score\.weight is missing"):
        RewardModel(str(student))
    with pytest.raises(ModelError, match=r"score\.weight is missing"):
        require_models(small_recipe(pairs={"reward_model": str(student)}))


def test_a_reward_model_with_two_outputs_is_refused_ahead_of_a_run(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=479, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_labels=2,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="2 outputs, expected one"):
        require_models(small_recipe(pairs={"reward_model": str(tmp_path)}))


def test_a_reward_model_that_is_nowhere_is_said_ahead_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing is there"):
        require_models(small_recipe(pairs={"reward_model": str(tmp_path / "none")}))


@pytest.mark.parametrize("section", ["warmup", "distill"])
def test_adapters_for_parts_that_do_not_exist_are_said_ahead_of_a_run(section: str) -> None:
    lora = {"r": 2, "target_modules": ["query_key_value"]}
    with pytest.raises(ModelError, match=rf"{section}\.lora does not fit.*query_key_value"):
        require_models(small_recipe(**{section: {"lora": lora}}))
    require_models(small_recipe(**{section: {"lora": {"r": 2, "target_modules": ["q_proj"]}}}))


def test_a_configuration_does_not_choose_the_code_that_computes_attention(student: Path) -> None:
    set_fields(student / "config.json", attn_implementation="org/kernel",
               experts_implementation="org/kernel")  # fmt: skip
    assert AutoConfig.from_pretrained(student)._attn_implementation == "org/kernel"
    assert load_config(str(student))._attn_implementation is None
    assert load_model(str(student)).config._attn_implementation == "sdpa"
    assert blank_model(str(student)).config._attn_implementation == "sdpa"


def test_a_model_without_a_limit_of_context_has_none() -> None:
    assert context_of(MambaConfig()) == UNBOUNDED
    assert context_of(MptConfig(max_seq_len=99)) == 99
    assert context_of(LlamaConfig(max_position_embeddings=77)) == 77


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_of_a_folder_is_that_of_most_of_its_numbers(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(dtype)
    model.model.norm.float()
    model.save_pretrained(tmp_path)
    assert stored_dtype(tmp_path) == dtype


def test_a_plan_says_how_each_model_is_run(tmp_path: Path) -> None:
    page, _ = plan(small_recipe(), tmp_path / "run", measured=False)
    assert page.count("; token tree") == 2
    assert str(path_ahead(load_config("bundled:student"))) == "token tree"


def test_a_path_that_a_miniature_cannot_tell_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("warmup_distill.engines.paths._ahead", {})
    monkeypatch.setattr("warmup_distill.models.miniature.LARGEST", 0)
    assert expected_path("bundled:student") == "found out when its weights are loaded"


def test_a_model_of_another_kind_is_named_as_one(student: Path, tmp_path: Path) -> None:
    set_fields(student / "config.json", model_type="qwen2_vl", architectures=["Qwen2VL"])
    for look in (blank_model, load_model):
        with pytest.raises(ModelError, match=r"is a qwen2_vl model, which is no causal language"):
            look(str(student))
    _, problems = plan(small_recipe(student=str(student)), tmp_path / "run", measured=False)
    assert len(problems) == 1 and "qwen2_vl" in problems[0] and len(problems[0]) < 500


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn, torch.bool])
def test_weights_in_few_bits_without_their_scales_are_refused(
    kind: torch.dtype, student: Path
) -> None:
    path = student / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    save_file(tensors | {name: tensors[name].to(kind)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{name} .*names no quantization_config"):
        blank_model(str(student))
