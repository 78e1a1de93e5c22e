"""TAID: a target that moves from the student to the teacher, as fast as the student follows."""

import math
from typing import Any

import torch
from torch import Tensor

from warmup_distill.losses.distributions import cross_entropy_of, log_softmaxes


def taid(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    t: float,
) -> Tensor:  # fmt: skip
    """−Σ p_t log q, p_t = softmax((1 − t) f_q + t f_p), f the logits, the target held fixed.

    At t = 1 it is forward KL in its cross-entropy form. Arguments and shapes as in `divergences`.

    Source: Shing et al. 2025, arXiv:2501.16937, equation 3 and the published code's reduction.

    Args:
        t: where the target is on its way, from 0 (the student) to 1 (the teacher).
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    target = ((1 - t) * q.detach() + t * p).log_softmax(-1)
    return torch.where(mask, cross_entropy_of(target, q), 0.0)


class TaidSchedule:
    """Moves t once per optimizer step, by how much the loss fell.

    δ = (previous − loss) / previous; m ← β m + (1 − β) δ;
    t ← min(t_end, max(t_start + (t_end − t_start) · progress, t + rate · σ(m) · (1 − t))).

    The first loss only sets the mark. Source: Shing et al. 2025, arXiv:2501.16937, algorithm 1.

    Args:
        t_start: t of the first step.
        t_end: where it stays.
        rate: α, the largest adaptive step.
        momentum: β.
    """

    def __init__(
        self, t_start: float = 0.4, t_end: float = 1.0, rate: float = 5e-4, momentum: float = 0.99
    ) -> None:
        self.t = self.t_start = t_start
        self.t_end = t_end
        self.rate = rate
        self.momentum = momentum
        self._previous: float | None = None
        self._trend = 0.0

    def update(self, loss: float, progress: float) -> None:
        """Take the loss of a whole optimizer step, and the share of all steps that are done."""
        previous, self._previous = self._previous, loss
        if previous is None:
            return
        fall = (previous - loss) / (previous + 1e-15)
        self._trend = self.momentum * self._trend + (1 - self.momentum) * fall
        step = self.rate * (1 - self.t) / (1 + math.exp(-self._trend))
        line = self.t_start + (self.t_end - self.t_start) * progress
        self.t = min(self.t_end, max(line, self.t + step))

    def state(self) -> dict[str, float | None]:
        """What to give to `restore` to go on from here."""
        return {"t": self.t, "previous": self._previous, "trend": self._trend}

    def restore(self, state: dict[str, Any]) -> None:
        self.t, self._previous, self._trend = state["t"], state["previous"], state["trend"]
