"""What makes a training the same twice, and its policy the same as its reference at the start."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def without_dropout(model: nn.Module) -> None:
    """Put every part of a model into evaluation mode but for what has to know of the training.

    The reference was scored without dropout, so the policy starts from it without dropout, and
    without whatever else families do in training mode alone (jitter of routers, dropped layers).
    Dropout of adapters stays: the recipe asks for it by name, and new adapters add nothing. Parts
    that checkpoint activations do so in training mode alone; their own dropout is set to 0.
    """
    for name, module in model.named_modules():
        checkpoints = bool(getattr(module, "gradient_checkpointing", False))
        module.training = checkpoints or "lora_dropout" in name
        if checkpoints:
            for attribute, value in vars(module).items():
                if "drop" in attribute and isinstance(value, float):
                    setattr(module, attribute, 0.0)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On a CPU: sums whose order does not hang on which thread comes first.

    Without this, gradients of indexing are added up in the order in which threads arrive.
    """
    if device.type != "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # a help to find faults, and not free
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        settings.fill_uninitialized_memory = fills
