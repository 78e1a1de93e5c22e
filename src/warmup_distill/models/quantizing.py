"""Models in fewer bits, as a library has written them: which one, and whether it is installed."""

from importlib.util import find_spec
from typing import Any

from warmup_distill.errors import ModelError
from warmup_distill.foreign.showing import brief

PACKAGES = {
    "bitsandbytes": ("bitsandbytes",),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel",),
    "torchao": ("torchao",),
}
"""What reads each kind; others fetch code from the hub, or have been tried by nobody here."""


def quantization_of(config: Any) -> str | None:
    """The kind of a model's quantization, by its configuration; None for ordinary weights."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    values = found if isinstance(found, dict) else found.to_dict()
    if values.get("load_in_4bit") or values.get("load_in_8bit"):  # older ones name no kind
        return "bitsandbytes"
    return str(getattr(values.get("quant_method"), "value", values.get("quant_method")))


def require_reader(name: str, config: Any) -> None:
    """Raise a ModelError if nothing here reads a model's quantized weights."""
    kind = quantization_of(config)
    if kind is None:
        return
    if kind not in PACKAGES:
        raise ModelError(
            f"{name} is quantized by {brief(kind)}: expected {', '.join(PACKAGES)}, or weights in "
            "float32 or bfloat16."
        )
    missing = [package for package in PACKAGES[kind] if find_spec(package) is None]
    if missing:
        raise ModelError(
            f"{name} is quantized by {kind}, which needs a library that is not installed. Install "
            f"it with: pip install {' '.join(missing)}"
        )


def require_trainable(name: str, config: Any) -> None:
    """Raise a ModelError if a student is quantized: its weights cannot be moved by small steps."""
    kind = quantization_of(config)
    if kind is not None:
        raise ModelError(
            f"{name} is quantized ({brief(kind)}), and a student cannot be: training moves its "
            "weights by less than such numbers can hold. Take the model that it was made from; a "
            "teacher may be quantized."
        )
