"""Numbers that are none, found before they are in the weights."""

from typing import Any

import torch
from transformers import TrainerCallback

from warmup_distill.errors import NumbersError
from warmup_distill.training.ranks import any_of, gathered


class FiniteGradients(TrainerCallback):
    """Stops before an optimizer step would spoil the weights, in all processes alike."""

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        parameters = model.named_parameters()
        broken = [name for name, one in parameters if one.grad is not None and not _good(one.grad)]
        if any_of(bool(broken)):  # of a sharded weight each process sees its part
            name = next(some[0] for some in gathered(broken) if some)
            raise NumbersError(
                f"the gradient of {name} in step {state.global_step + 1} is not finite. The "
                "last checkpoint is kept. Lower the learning rate or max_grad_norm."
            )


def _good(gradient: Any) -> bool:
    here = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return bool(torch.isfinite(here).all())
