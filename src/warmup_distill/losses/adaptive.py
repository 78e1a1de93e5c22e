"""Adaptive KL: forward where the head of the distribution is off, reverse where the tail is."""

from typing import Literal

import torch
from torch import Tensor

from warmup_distill.losses.distributions import expected_log_ratio, log_softmaxes

Variant = Literal["paper", "dskd"]
"""Where the token that crosses the threshold goes: to the tail (`paper`), to the head (`dskd`)."""


def adaptive_kl(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    head_mass: float = 0.5, variant: Variant = "paper",
) -> Tensor:  # fmt: skip
    """w KL(teacher ‖ student) + (1 − w) KL(student ‖ teacher), w = g_head / (g_head + g_tail).

    g sums |p − q| over the teacher's likeliest tokens, which hold the mass μ = `head_mass`, and
    over all others. The weights receive no gradient. Where p = q they are ½ each, so that value
    and gradient are 0, not 0/0. Arguments and shapes as in `divergences`.

    Source: Wu et al. 2025, arXiv:2404.02657, section 5. Variants: `paper` as in its code
    (LLM_KD_AKL), `dskd` as in DSKD and KDFlow.
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    weight = _head_weight(p, q.detach(), head_mass, variant)
    values = weight * expected_log_ratio(p, q) + (1 - weight) * expected_log_ratio(q, p)
    return torch.where(mask, values, 0.0)


def _head_weight(p: Tensor, q: Tensor, head_mass: float, variant: Variant) -> Tensor:
    sorted_logp, order = p.sort(-1, descending=True)
    probabilities = sorted_logp.exp()
    gaps = (probabilities - q.gather(-1, order).exp()).abs()
    through = probabilities.cumsum(-1)
    if variant == "paper":
        in_head = through <= head_mass
        in_head[..., 0] = True
    else:  # the tail is what, counted from the least likely on, stays within 1 − the head's mass
        from_below = probabilities.flip(-1).cumsum(-1).flip(-1)
        in_head = from_below > 1 - head_mass
    head = torch.where(in_head, gaps, 0.0).sum(-1)
    total = gaps.sum(-1)
    return torch.where(total > 0, head / total.clamp(min=torch.finfo(total.dtype).tiny), 0.5)
