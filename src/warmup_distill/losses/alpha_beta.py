"""The α-β divergence, which has forward and reverse KL as its corners."""

import torch
from torch import Tensor

from warmup_distill.losses.distributions import log_softmaxes


def alpha_beta(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    alpha: float = 0.5, beta: float = 0.5,
) -> Tensor:  # fmt: skip
    """−1/(αβ) Σ [p^α q^β − α/(α+β) p^(α+β) − β/(α+β) q^(α+β)], teacher p, student q.

    α = 1, β = 0 is KL(teacher ‖ student), α = 0, β = 1 is KL(student ‖ teacher); where α, β or
    α + β is 0 the limit is taken. Arguments and shapes as in `divergences`.

    Source: Wang et al. 2025, ABKD, arXiv:2505.04560, definition 3.1; limits: Cichocki et al. 2011,
    *Generalized alpha-beta divergences*, equation 20. (ABKD's code divides the limits by r where
    the limit has r²; the same where r = 1.)
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    # Log-probabilities below this are zero in float32; −∞ would make 0 · ∞ of the limits.
    floor = torch.finfo(torch.float32).min / 1e30
    values = _terms(p.clamp(min=floor), q.clamp(min=floor), alpha, beta).sum(-1)
    return torch.where(mask, values, 0.0)


def _terms(p: Tensor, q: Tensor, alpha: float, beta: float) -> Tensor:
    """The divergence of each token, non-negative; p and q are logarithms."""
    if alpha == 0 and beta == 0:
        return (p - q) ** 2 / 2
    if beta == 0:
        return _limit(p, q, alpha)
    if alpha == 0:
        return _limit(q, p, beta)
    total = alpha + beta
    if total == 0:
        ratio = alpha * (q - p)
        return (ratio + (-ratio).exp() - 1) / alpha**2
    own = (alpha * (total * p).exp() + beta * (total * q).exp()) / total
    return (own - (alpha * p + beta * q).exp()) / (alpha * beta)


def _limit(a: Tensor, b: Tensor, power: float) -> Tensor:
    """1/r² [a^r log(a^r / b^r) − a^r + b^r], r = `power`; a and b are logarithms."""
    first, second = (power * a).exp(), (power * b).exp()
    return (first * power * (a - b) - first + second) / power**2
