"""The objectives of distillation by name: a divergence, mixed with cross-entropy.

Shape letters: B row, T completion position, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from warmup_distill.losses.divergences import forward_kl, reverse_kl

DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
}
"""Name in the recipe to function; one line here makes a new one available."""


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


def distillation(
    objective: str,
    teacher_logits: Tensor | None,
    student_logits: Tensor,
    ids: Tensor,
    mask: Tensor,
    *,
    cross_entropy_weight: float,
    temperature: float,
) -> Tensor:
    """(1 − w) · divergence(teacher, student) + w · cross-entropy at each position, in nats.

    Args:
        objective: a key of `DIVERGENCES`, or `sft` for cross-entropy alone.
        teacher_logits: [B, T, V]; may be None for `sft`.
        student_logits: [B, T, V].
        ids: [B, T], the tokens of the references.
        mask: [B, T] bool, True where the predicted token belongs to a completion.
        cross_entropy_weight: w, 0 to 1.
        temperature: divides both logits in the divergence.

    Returns:
        [B, T] float32, 0 where `mask` is False.
    """
    if objective == "sft":
        return cross_entropy(student_logits, ids, mask)
    divergence = DIVERGENCES[objective]
    values = divergence(teacher_logits, student_logits, mask, temperature=temperature)
    return mixed(values, student_logits, ids, mask, cross_entropy_weight)


def mixed(
    values: Tensor, student_logits: Tensor, ids: Tensor, mask: Tensor, cross_entropy_weight: float
) -> Tensor:
    """(1 − w) · values + w · cross-entropy at each position; shapes as in `distillation`."""
    if not cross_entropy_weight:
        return values
    hard = cross_entropy(student_logits, ids, mask)
    return (1 - cross_entropy_weight) * values + cross_entropy_weight * hard
