"""Low-rank adapters, by peft."""

import importlib.util
from typing import Any

from transformers import PreTrainedModel

from warmup_distill.errors import RecipeError
from warmup_distill.recipe import LoraSection


def with_lora(model: PreTrainedModel, section: LoraSection) -> Any:
    """The model with new adapters, which change nothing yet; the rest of it is frozen.

    Raises:
        RecipeError: peft is not installed.
        ValueError: peft finds nothing to adapt.
    """
    if importlib.util.find_spec("peft") is None:
        raise RecipeError("lora needs the extra `lora`: pip install 'warmup-distill[lora]'")
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **section.model_dump()))
