"""Divergences between the teacher's and the student's next-token distributions.

Shape letters: B row, T completion position, V vocabulary. p is the teacher, q the student; values
are in nats. Every function takes

    teacher_logits: [B, T, V], of the shared vocabulary; receives no gradient,
    student_logits: [B, T, V],
    mask: [B, T] bool, True where the predicted token belongs to a completion,
    temperature: divides both logits; values are not multiplied by its square,

and returns [B, T] float32, 0 where `mask` is False. What goes by one name and is computed in
several ways in the field is an option with a name.
"""

from typing import Literal

import torch
from torch import Tensor

from warmup_distill.losses.distributions import (
    cross_entropy_of,
    expected_log_ratio,
    log_softmaxes,
)

Form = Literal["kl", "ce"]
"""`ce` leaves the teacher's entropy in: the same gradient, another value."""


def forward_kl(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    form: Form = "kl",
) -> Tensor:  # fmt: skip
    """KL(teacher ‖ student) = Σ p (log p − log q), or −Σ p log q in the form `ce`.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2, without the factor temperature². KL
    form in TRL, DSKD and KDFlow; cross-entropy form in MiniLLM, DistiLLM and TAID.
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    values = expected_log_ratio(p, q) if form == "kl" else cross_entropy_of(p, q)
    return torch.where(mask, values, 0.0)


def reverse_kl(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """KL(student ‖ teacher) = Σ q (log q − log p) at each position, gradient through q in full.

    Source: Gu et al. 2024, MiniLLM, arXiv:2306.08543, equation 1, here per token.
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    return torch.where(mask, expected_log_ratio(q, p), 0.0)


def symmetric_kl(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    reverse_share: float = 0.5,
) -> Tensor:  # fmt: skip
    """(1 − s) KL(teacher ‖ student) + s KL(student ‖ teacher), s = `reverse_share`.

    Source: Jeffreys' divergence, halved at s = 0.5 (NeMo-RL's `mixed`); DistiLLM's code
    (arXiv:2402.03898) takes s = 0.9.
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    forward, reverse = expected_log_ratio(p, q), expected_log_ratio(q, p)
    return torch.where(mask, (1 - reverse_share) * forward + reverse_share * reverse, 0.0)


def total_variation(
    teacher_logits: Tensor, student_logits: Tensor, mask: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """½ Σ |p − q|, between 0 and 1; symmetric in teacher and student.

    Source: Wen et al. 2023, f-distill, arXiv:2307.15190, section 3.
    """
    p, q = log_softmaxes(teacher_logits, student_logits, mask, temperature)
    return torch.where(mask, (p.exp() - q.exp()).abs().sum(-1) / 2, 0.0)


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
    top = expected_log_ratio(top_logprobs, student_top)
    return top + expected_log_ratio(rest_logprob.unsqueeze(-1), student_rest.unsqueeze(-1))
