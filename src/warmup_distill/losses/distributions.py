"""What all divergences share: checked log-softmaxes, expectations and mixtures.

Shape letters: B row, T completion position, V vocabulary.
"""

import math

import torch
from torch import Tensor


def log_softmaxes(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """log p and log q [B, T, V] in float32; the teacher's without gradient.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if teacher_logits.shape != student_logits.shape or mask.shape != student_logits.shape[:-1]:
        raise ValueError(
            f"expected logits [B, T, V] of one shape and a mask [B, T]; got teacher "
            f"{[*teacher_logits.shape]}, student {[*student_logits.shape]}, mask {[*mask.shape]}. "
            "If only V differs, cut both models to their shared vocabulary first."
        )
    # Upcast before the softmax: bfloat16 has 8 significant bits, too few to sum over V.
    teacher_logp = (teacher_logits.detach().float() / temperature).log_softmax(-1)
    return teacher_logp, (student_logits.float() / temperature).log_softmax(-1)


def expected_log_ratio(from_logp: Tensor, to_logp: Tensor) -> Tensor:
    """Σ exp(a) (a − b) over the last axis, with 0 · ∞ = 0 for tokens of probability zero."""
    possible = from_logp > -torch.inf
    # Replaced before the product: a masked nan would still poison the gradient.
    from_safe = torch.where(possible, from_logp, 0.0)
    terms = from_safe.exp() * (from_safe - torch.where(possible, to_logp, 0.0))
    return torch.where(possible, terms, 0.0).sum(-1)


def cross_entropy_of(from_logp: Tensor, to_logp: Tensor) -> Tensor:
    """−Σ exp(a) b over the last axis, with 0 · ∞ = 0."""
    possible = from_logp > -torch.inf
    terms = from_logp.exp() * torch.where(possible, to_logp, 0.0)
    return -terms.sum(-1)


def log_mixture(first_logp: Tensor, second_logp: Tensor, share: float) -> Tensor:
    """log(share · first + (1 − share) · second), for a share strictly between 0 and 1."""
    return torch.logaddexp(first_logp + math.log(share), second_logp + math.log1p(-share))
