"""Divergences from a mixture of teacher and student. Arguments and shapes as in `divergences`."""

from typing import Literal

import torch
from torch import Tensor

from warmup_distill.losses.distributions import (
    cross_entropy_of,
    expected_log_ratio,
    log_mixture,
    log_softmaxes,
)
from warmup_distill.losses.divergences import Form

Convention = Literal["gkd", "distillm", "kdflow"]
"""Whose letter β: GKD and TRL give it to the teacher, DistiLLM (λ) and KDFlow to the student."""


def jensen_shannon(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    mixture: float = 0.5, convention: Convention = "gkd",
) -> Tensor:  # fmt: skip
    """β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q, β = `mixture`; `gkd`.

    In the conventions `distillm` and `kdflow` β is the student's share: 1 − β takes its place.
    At the ends β = 0 is KL(p ‖ q) and β = 1 is KL(q ‖ p) in TRL's order, which is the limit of the
    divergence divided by its vanishing weight; so the scale jumps there.

    Source: Agarwal et al. 2024, GKD, arXiv:2306.13649, equation 1.
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    share = mixture if convention == "gkd" else 1 - mixture
    if share == 0:
        values = expected_log_ratio(p, q)
    elif share == 1:
        values = expected_log_ratio(q, p)
    else:
        m = log_mixture(p, q, share)
        values = share * expected_log_ratio(p, m) + (1 - share) * expected_log_ratio(q, m)
    return torch.where(mask, values, 0.0)


def skewed_forward_kl(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    skew: float = 0.1, form: Form = "kl",
) -> Tensor:  # fmt: skip
    """KL(teacher ‖ m), m = α p + (1 − α) q, α = `skew`; −Σ p log m in the form `ce`.

    Source: Ko et al. 2024, DistiLLM, arXiv:2402.03898, equation 4; its code has the form `ce`,
    DSKD's and KDFlow's the form `kl`.
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    m = log_mixture(p, q, skew)
    values = expected_log_ratio(p, m) if form == "kl" else cross_entropy_of(p, m)
    return torch.where(mask, values, 0.0)


def skewed_reverse_kl(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    skew: float = 0.1, detach_mixture: bool = False,
) -> Tensor:  # fmt: skip
    """KL(student ‖ m), m = (1 − α) p + α q, α = `skew`.

    Source: Ko et al. 2024, DistiLLM, arXiv:2402.03898, equation 5. DistiLLM-2's code holds the q
    inside m fixed (`detach_mixture`); DistiLLM's, DSKD's and KDFlow's do not.
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    m = log_mixture(q.detach() if detach_mixture else q, p, skew)
    return torch.where(mask, expected_log_ratio(q, m), 0.0)
