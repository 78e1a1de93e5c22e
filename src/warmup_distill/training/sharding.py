"""A model that processes share out, whole again."""

import copy
from typing import Any

import torch
from torch import nn

from warmup_distill.training.ranks import is_first


def without_weights(model: nn.Module) -> nn.Module:
    """A copy of a model whose weights hold nothing, to be filled by `gather_into`."""
    instead: dict[int, Any] = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), one.requires_grad)
        for one in model.parameters()
    }
    instead[id(model.config)] = model.config  # one for both
    return copy.deepcopy(model, instead)


def gather_into(blank: nn.Module, trainer: Any) -> None:
    """Put the weights that processes share out into a whole model, in the first of them."""
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if is_first():
        blank.load_state_dict(weights, assign=True)
        blank.tie_weights()  # type: ignore[operator]
