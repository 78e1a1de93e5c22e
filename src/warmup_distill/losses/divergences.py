"""Divergences between the teacher's and the student's next-token distributions.

Shape letters: B row, T completion position, V vocabulary. Values are in nats. Logits are those
of the shared vocabulary, already cut to its size.
"""

import torch
from torch import Tensor


def forward_kl(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """KL(teacher ‖ student) = Σ p (log p − log q) at each position.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2, in the KL form; without the factor
    temperature².

    Args:
        teacher_logits: [B, T, V]; receives no gradient.
        student_logits: [B, T, V].
        mask: [B, T] bool, True where the predicted token belongs to a completion.
        temperature: divides both logits.

    Returns:
        [B, T] float32, 0 where `mask` is False.
    """
    teacher_logp, student_logp = _log_softmax(teacher_logits, student_logits, mask, temperature)
    return torch.where(mask, _expected_log_ratio(teacher_logp, student_logp), 0.0)


def reverse_kl(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """KL(student ‖ teacher) = Σ q (log q − log p) at each position, gradient through q in full.

    Source: Gu et al. 2024, MiniLLM, arXiv:2306.08543, equation 1, here per token.

    Args:
        teacher_logits: [B, T, V]; receives no gradient.
        student_logits: [B, T, V].
        mask: [B, T] bool, True where the predicted token belongs to a completion.
        temperature: divides both logits.

    Returns:
        [B, T] float32, 0 where `mask` is False.
    """
    teacher_logp, student_logp = _log_softmax(teacher_logits, student_logits, mask, temperature)
    return torch.where(mask, _expected_log_ratio(student_logp, teacher_logp), 0.0)


def forward_kl_top_k(
    top_logprobs: Tensor,
    top_ids: Tensor,
    rest_logprob: Tensor,
    student_logits: Tensor,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Σ_top p (log p − log q) + p_rest (log p_rest − log q_rest): KL(teacher ‖ student), coarser.

    All tokens but the teacher's K likeliest are one bucket, so the value is never above the full
    divergence, and 0 only where the top-k agree. Without the bucket a student could put its mass
    anywhere else for nothing.

    Args:
        top_logprobs: [..., K] under the teacher, at the same temperature.
        top_ids: [..., K].
        rest_logprob: [...], of all other tokens together.
        student_logits: [..., V].
        temperature: divides the student's logits.

    Returns:
        [...] float32, in nats.
    """
    logits = student_logits.float() / temperature
    total = logits.logsumexp(-1, keepdim=True)
    ids = top_ids.long()
    student_top = logits.gather(-1, ids) - total
    student_rest = logits.scatter(-1, ids, -torch.inf).logsumexp(-1) - total.squeeze(-1)
    top = _expected_log_ratio(top_logprobs, student_top)
    return top + _expected_log_ratio(rest_logprob.unsqueeze(-1), student_rest.unsqueeze(-1))


def _log_softmax(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    if teacher_logits.shape != student_logits.shape or mask.shape != student_logits.shape[:-1]:
        raise ValueError(
            f"expected logits [B, T, V] of one shape and a mask [B, T]; got teacher "
            f"{[*teacher_logits.shape]}, student {[*student_logits.shape]}, mask {[*mask.shape]}. "
            "If only V differs, cut both models to their shared vocabulary first."
        )
    # Upcast before the softmax: bfloat16 has 8 significant bits, too few to sum over V.
    teacher_logp = (teacher_logits.detach().float() / temperature).log_softmax(-1)
    return teacher_logp, (student_logits.float() / temperature).log_softmax(-1)


def _expected_log_ratio(from_logp: Tensor, to_logp: Tensor) -> Tensor:
    """Σ exp(a) (a − b) over the last axis, with 0 · ∞ = 0 for tokens of probability zero."""
    possible = from_logp > -torch.inf
    # Replaced before the product: a masked nan would still poison the gradient.
    from_safe = torch.where(possible, from_logp, 0.0)
    terms = from_safe.exp() * (from_safe - torch.where(possible, to_logp, 0.0))
    return torch.where(possible, terms, 0.0).sum(-1)
