"""Concrete-score distillation: match the differences of logits, not probabilities."""

from typing import Literal

import torch
from torch import Tensor

from warmup_distill.losses.distributions import log_softmaxes

Weight = Literal["student", "teacher", "uniform"]


def concrete_score(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    first_weight: Weight = "student", second_weight: Weight = "student",
) -> Tensor:  # fmt: skip
    """½ Σ_x Σ_y w₁(x) w₂(y) [(f_q(x) − f_q(y)) − (f_p(x) − f_p(y))]², f the logits.

    With d = f_q − f_p it is ½ [Σ w₁ d² + Σ w₂ d²] − (Σ w₁ d)(Σ w₂ d), so it costs one pass over
    the vocabulary. Each weight is a distribution, of the student, the teacher, or uniform, and
    receives no gradient. Arguments and shapes as in `divergences`.

    Source: Kim et al. 2025, arXiv:2509.25837. Its code was not to be had; that the weights are
    held fixed is our reading.
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    gap = q - p  # log-softmaxes are logits but for a constant, which drops out
    first, second = (_weights(name, p, q) for name in (first_weight, second_weight))
    # Centred first: the difference of two large sums would lose what they differ in.
    centred = gap - (first * gap).sum(-1, keepdim=True)
    squares = ((first + second) * centred**2).sum(-1) / 2
    values = squares - (first * centred).sum(-1) * (second * centred).sum(-1)
    return torch.where(mask, values, 0.0)


def _weights(name: Weight, p: Tensor, q: Tensor) -> Tensor:
    if name == "uniform":
        return torch.full_like(p, 1 / p.shape[-1])
    return (p if name == "teacher" else q).detach().exp()
