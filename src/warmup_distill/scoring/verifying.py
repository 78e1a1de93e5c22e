"""Equality of mathematical answers by `math-verify`, which parses LaTeX and asks sympy."""

import logging
import threading
from typing import Any

import math_verify

from warmup_distill.scoring.math_strings import last_boxed

SECONDS = 5

for _name in ("math_verify.parser", "math_verify.grader"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # what takes too long is not equal


def verified(output: str, gold: str) -> bool:
    """Whether an output's answer equals a gold answer given alone, such as `\\frac{1}{2}`."""
    return _verify(_parse(f"${gold}$"), _parse(f"${output}$"))


def verified_output(output: str, answer: str | None, solution: str | None) -> tuple[bool, str]:
    """Whether a whole output's answer equals the gold one, and what was read from the output.

    Args:
        output: prose; LaTeX in it stands in `$…$`, `\\(…\\)`, `\\[…\\]` or `\\boxed{…}`.
        answer: the gold answer alone, without dollars.
        solution: a worked solution, which is read instead where it boxes its answer.
    """
    if solution is not None and last_boxed(solution) is not None:
        gold = _parse(solution)
    else:
        gold = _parse(f"${answer if answer is not None else solution}$")
    found = _parse(output)
    return _verify(gold, found), str(found[-1]) if found else ""


def _parse(text: str) -> Any:
    return math_verify.parse(text, parsing_timeout=_limit())


def _verify(gold: Any, found: Any) -> bool:
    # Not symmetric: gold first.
    return bool(math_verify.verify(gold, found, timeout_seconds=_limit()))


def _limit() -> int | None:
    """math-verify stops long work by a signal, which only the main thread can take."""
    return SECONDS if threading.current_thread() is threading.main_thread() else None
