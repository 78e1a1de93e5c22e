"""The head and a loss over it, a few positions at a time: the full logits never exist.

Shape letters: N position, E width of the hidden states.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

Part = Callable[[Tensor, slice], Tensor]
"""Hidden states of some positions and which they are → the loss summed over them."""


def summed_in_parts(
    part: Part, hidden: Tensor, parameters: Iterable[nn.Parameter], at_once: int
) -> Tensor:
    """Σ part(hidden[some], some): the sum of a loss over positions, its head included.

    The gradients are made in the forward pass, right where the logits are, so nothing is kept or
    computed again for the backward pass, which may come once.

    Args:
        part: differentiable; a sum over positions, so that parts add up.
        hidden: [N, E].
        parameters: those that `part` uses, besides the hidden states.
        at_once: positions in one part.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    total: Tensor = _SummedInParts.apply(  # type: ignore[no-untyped-call]
        part, at_once, hidden, *trained
    )
    return total


class _SummedInParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Part, at_once: int, hidden: Tensor, *trained: Tensor) -> Tensor:
        assert len(hidden), "no position has a loss"
        total = hidden.new_zeros((), dtype=torch.float32)
        hidden_grad = torch.empty_like(hidden) if any(ctx.needs_input_grad) else None
        grads: list[Tensor] = []
        for start in range(0, len(hidden), at_once):
            some = slice(start, start + at_once)
            states = hidden[some].detach()
            if hidden_grad is None:
                total += part(states, some)
                continue
            with torch.enable_grad():
                value = part(states.requires_grad_(), some)
            state_grad, *new = torch.autograd.grad(value, [states, *trained])
            hidden_grad[some] = state_grad
            for grad, addition in zip(grads, new, strict=False):
                grad += addition
            grads = grads or list(new)
            total += value.detach()
        ctx.grads = [hidden_grad, *grads]
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        grads, ctx.grads = ctx.grads, None  # in place, for the head's are large
        return None, None, *(grad.mul_(outputs[0]) for grad in grads)
