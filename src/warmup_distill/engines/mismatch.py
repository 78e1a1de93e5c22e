"""Where the student leaves the teacher: margins and the mismatch index."""

from collections.abc import Sequence


def margins(student_logprobs: Sequence[float], teacher_logprobs: Sequence[float]) -> list[float]:
    """log q(y_t | x, y_<t) − log p(y_t | x, y_<t) at each token, in nats.

    The teacher's list may be shorter (a check that stopped); the margins are then as short.
    """
    assert len(teacher_logprobs) <= len(student_logprobs)
    return [q - p for q, p in zip(student_logprobs, teacher_logprobs, strict=False)]


def find_mismatch(
    student_logprobs: Sequence[float], teacher_logprobs: Sequence[float], threshold: float
) -> tuple[int | None, float]:
    """The first token whose margin is strictly greater than the threshold η, and its margin.

    Source: Warmup-Distill, arXiv:2502.11766, step 2.

    Returns:
        `(k, margin)`, k counted from 0; `(None, largest margin)` where no margin is greater.

    Example:
        >>> find_mismatch([-1.0, -0.5, -0.1], [-1.0, -6.0, -9.0], threshold=4.0)
        (1, 5.5)
        >>> find_mismatch([-1.0], [-5.0], threshold=4.0)
        (None, 4.0)
    """
    values = margins(student_logprobs, teacher_logprobs)
    for index, value in enumerate(values):
        if value > threshold:
            return index, value
    return None, max(values)
