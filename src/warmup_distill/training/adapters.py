"""Low-rank adapters, by peft."""

import importlib.util
from typing import Any

from transformers import PreTrainedModel, set_seed

from warmup_distill.errors import ModelError, RecipeError
from warmup_distill.foreign.showing import brief
from warmup_distill.recipe import LoraSection


def with_lora(model: PreTrainedModel, section: LoraSection) -> Any:
    """The model with new adapters, which change nothing yet; the rest of it is frozen.

    Raises:
        RecipeError: peft is not installed.
        ValueError: peft finds nothing to adapt.
        ModelError: an adapter would sit on weights that the model uses twice.
    """
    _require_peft("lora")
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **section.model_dump()))
    _require_untied(adapted)
    return adapted


def with_adapters(model: PreTrainedModel, peft_config: Any, seed: int) -> Any:
    """The model with new adapters of any kind, which the seed alone decides.

    Raises:
        RecipeError: peft is not installed, or does not take the configuration.
    """
    _require_peft("peft_config")
    from peft import PeftConfig, get_peft_model

    if not isinstance(peft_config, PeftConfig):
        raise RecipeError(
            "peft_config: expected one of peft's, such as LoraConfig(r=16), got "
            f"{brief(peft_config)}"
        )
    set_seed(seed)
    try:
        adapted = get_peft_model(model, peft_config)
    except ValueError as error:
        raise RecipeError(f"peft_config does not fit the model: {error}") from error
    _require_untied(adapted)
    return adapted


def _require_untied(adapted: Any) -> None:
    """Refuse adapters on a head that is the embedding too: merged, they would change both."""
    model = adapted.get_base_model()
    parts = model.get_input_embeddings(), model.get_output_embeddings()
    weights = [getattr(part, "base_layer", part).weight for part in parts if part is not None]
    tied = len(weights) == 2 and (weights[0] is weights[1] or model.config.tie_word_embeddings)
    if tied and any(hasattr(part, "base_layer") for part in parts):
        raise ModelError(
            "the model's head and its embedding are one tensor, and adapters on one of them would "
            "change both when they are merged. Leave them out of target_modules."
        )


def _require_peft(name: str) -> None:
    if importlib.util.find_spec("peft") is None:
        raise RecipeError(f"{name} needs the extra `lora`: pip install 'warmup-distill[lora]'")
