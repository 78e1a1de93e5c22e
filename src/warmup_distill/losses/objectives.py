"""The objectives of distillation by name: a divergence, mixed with cross-entropy.

Shape letters: B row, T completion position, V vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from warmup_distill.losses.adaptive import adaptive_kl
from warmup_distill.losses.alpha_beta import alpha_beta
from warmup_distill.losses.concrete_score import concrete_score
from warmup_distill.losses.divergences import forward_kl, reverse_kl, symmetric_kl, total_variation
from warmup_distill.losses.mixtures import jensen_shannon, skewed_forward_kl, skewed_reverse_kl
from warmup_distill.losses.taid import taid

DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "symmetric_kl": symmetric_kl,
    "jensen_shannon": jensen_shannon,
    "skewed_forward_kl": skewed_forward_kl,
    "skewed_reverse_kl": skewed_reverse_kl,
    "adaptive_kl": adaptive_kl,
    "total_variation": total_variation,
    "alpha_beta": alpha_beta,
    "concrete_score": concrete_score,
    "taid": taid,
}
"""Name in the recipe to function; one line here makes a new one available."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """(1 − w) · divergence(teacher, student) + w · cross-entropy, of what a recipe asks for."""

    name: str = "forward_kl"
    """A key of `DIVERGENCES`, or `sft` for cross-entropy alone."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the divergence takes besides, by the names of its arguments."""
    cross_entropy_weight: float = 0.0
    """w, 0 to 1."""
    temperature: float = 1.0
    """Divides both logits in the divergence."""
    temperature_squared: bool = False
    """Multiply the divergence by temperature², which keeps its gradient's scale."""

    def __call__(
        self, teacher_logits: Tensor | None, student_logits: Tensor, ids: Tensor, mask: Tensor,
        **moving: float,
    ) -> Tensor:  # fmt: skip
        """The objective at each position, in nats.

        Args:
            teacher_logits: [B, T, V]; None for `sft`.
            student_logits: [B, T, V].
            ids: [B, T], the tokens of the completions.
            mask: [B, T] bool, True where the predicted token belongs to a completion.
            moving: options that change from step to step (`t` of `taid`).

        Returns:
            [B, T] float32, 0 where `mask` is False.
        """
        if self.name == "sft":
            return cross_entropy(student_logits, ids, mask)
        values = DIVERGENCES[self.name](
            teacher_logits, student_logits, mask, temperature=self.temperature,
            **self.options, **moving,
        )  # fmt: skip
        return self.mixed(values, student_logits, ids, mask)

    def mixed(self, values: Tensor, student_logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The objective from a divergence's values; shapes as in `__call__`."""
        if self.temperature_squared:
            values = values * self.temperature**2
        if not self.cross_entropy_weight:
            return values
        hard = cross_entropy(student_logits, ids, mask)
        return (1 - self.cross_entropy_weight) * values + self.cross_entropy_weight * hard


def cross_entropy(student_logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """−log q(id) at each position, in nats.

    Args:
        student_logits: [B, T, V].
        ids: [B, T], the tokens that the logits predict.
        mask: [B, T] bool, True where the predicted token belongs to a completion.

    Returns:
        [B, T] float32, 0 where `mask` is False.
    """
    values = F.cross_entropy(student_logits.float().flatten(0, -2), ids.flatten(), reduction="none")
    return torch.where(mask, values.view_as(ids), 0.0)
