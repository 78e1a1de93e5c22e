"""A quantized teacher: read where its library is, named where it is not, and never a student."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VOCABULARY_SIZE
from test_run import small_recipe
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
)

from warmup_distill.engines.fitting import needs_of, stored_bytes
from warmup_distill.engines.paths import packed_model
from warmup_distill.errors import ModelError
from warmup_distill.models import quantizing
from warmup_distill.models.heads import load_head
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.loading import BUNDLED, load_model
from warmup_distill.models.placing import stays_where_it_is
from warmup_distill.models.quantizing import quantization_of, require_reader
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.stages.models_ahead import require_models


def config(**quantization: Any) -> PretrainedConfig:
    return PretrainedConfig(quantization_config=quantization)


@pytest.mark.parametrize(
    ("method", "packages"),
    [("bitsandbytes", "bitsandbytes"), ("gptq", "gptqmodel optimum"), ("awq", "gptqmodel"),
     ("torchao", "torchao")],
)  # fmt: skip
def test_a_library_that_is_missing_is_named_with_its_pip_command(
    method: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        require_reader("a-teacher", config(quant_method=method))
    assert str(caught.value).endswith(f"Install it with: pip install {packages}")
    monkeypatch.setattr(quantizing, "find_spec", lambda name: object())
    require_reader("a-teacher", config(quant_method=method))


def test_what_would_fetch_code_or_was_never_tried_is_refused() -> None:
    with pytest.raises(ModelError, match="is quantized by 'metal': expected bitsandbytes, gptq"):
        require_reader("a-teacher", config(quant_method="metal"))


def test_the_kind_is_found_in_all_that_stands_in_configurations() -> None:
    assert quantization_of(PretrainedConfig()) is None
    assert quantization_of(config(load_in_4bit=True)) == "bitsandbytes"
    assert quantization_of(config(quant_method="gptq", bits=4)) == "gptq"
    whole = PretrainedConfig()
    whole.quantization_config = BitsAndBytesConfig(load_in_8bit=True)
    assert quantization_of(whole) == "bitsandbytes"


def test_a_quantized_student_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    for path in (BUNDLED / "student").iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    values = json.loads((tmp_path / "config.json").read_text())
    values["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"a student cannot be: .* a teacher may be quantized"):
        require_models(small_recipe(student=str(tmp_path)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [{"load_in_4bit": True}, {"load_in_8bit": True}])
def test_a_quantized_folder_is_a_teacher_with_its_own_numbers(
    settings: dict[str, Any], vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """Held to the library's own model; the tree and the head alone give its logits."""
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY_SIZE}
    whole = LlamaForCausalLM(LlamaConfig(**shape, **heads, initializer_range=0.3))
    whole.save_pretrained(tmp_path / "whole")
    made = AutoModelForCausalLM.from_pretrained(
        tmp_path / "whole",
        device_map={"": "cpu"},
        quantization_config=BitsAndBytesConfig(**settings),
    )
    made.save_pretrained(tmp_path / "few")
    ref = ModelRef.of(str(tmp_path / "few"), "float32")
    teacher = load_model(ref.name)
    assert teacher.is_quantized and stays_where_it_is(teacher)
    assert needs_of(ref, 1).weights == stored_bytes(ref.name) < needs_of(
        ModelRef.of(str(tmp_path / "whole"), "float32"), 1
    ).weights  # fmt: skip
    packed, prompt, ending = packed_model(teacher, vocabulary), [5, 6, 7], [8, 9, 10, 11]
    with torch.inference_mode(), packed.following():
        hidden, _ = packed.completion_hidden([prompt], [ending])
        found = packed.logits(hidden)
        # The same rows, for in eight bits a row's numbers hang on those beside it.
        expected = made(torch.tensor([prompt + ending[:-1]])).logits[0, 2:]
        assert (found - expected).abs().max() < 1e-2
        assert load_head(ref)(hidden).equal(teacher.get_output_embeddings()(hidden))
