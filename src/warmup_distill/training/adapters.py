"""Low-rank adapters, by peft."""

import importlib.util
from typing import Any

from transformers import PreTrainedModel, set_seed

from warmup_distill.errors import RecipeError
from warmup_distill.foreign.showing import brief
from warmup_distill.recipe import LoraSection


def with_lora(model: PreTrainedModel, section: LoraSection) -> Any:
    """The model with new adapters, which change nothing yet; the rest of it is frozen.

    Raises:
        RecipeError: peft is not installed.
        ValueError: peft finds nothing to adapt.
    """
    _require_peft("lora")
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **section.model_dump()))


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
        return get_peft_model(model, peft_config)
    except ValueError as error:
        raise RecipeError(f"peft_config does not fit the model: {error}") from error


def _require_peft(name: str) -> None:
    if importlib.util.find_spec("peft") is None:
        raise RecipeError(f"{name} needs the extra `lora`: pip install 'warmup-distill[lora]'")
