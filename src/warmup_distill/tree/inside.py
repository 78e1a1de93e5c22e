"""Work inside the forward of a module, where those who wrap or shard it have its weights ready."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def inside(module: Any, function: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """What a function makes of some tensors, inside one call of a module that may be wrapped.

    DDP, FSDP and DeepSpeed prepare for the backward pass in there, and gather what processes share
    out, so whatever uses the weights has to happen in there too.

    Args:
        module: one that is neither wrapped nor sharded is not called.
        function: may call the module itself.
        given: what the module is called with; FSDP may cast it.
    """
    inner = module
    while hasattr(inner, "module"):
        inner = inner.module
    if inner is module and not is_sharded(module):
        return function(*given)
    original, made = inner.forward, []

    def instead(*tensors: Tensor) -> Tensor:
        inner.forward = original
        made.append(function(*tensors))
        return made[0]

    inner.forward = instead
    try:
        returned: Tensor = module(*given)
    finally:
        inner.forward = original
    # FSDP casts what a module returns to the dtype of its weights, and a loss must stay as it is.
    return made[0] if inner is module else returned


def is_sharded(module: Any) -> bool:
    """Whether FSDP (`fully_shard`) shares out the weights of a module."""
    return hasattr(module, "unshard")
