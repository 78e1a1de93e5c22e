"""The process in which math-verify compares answers: it can be stopped, whatever it computes.

It reads a request per line from its standard input, JSON with `gold`, `output` and `seconds`, and
writes JSON with `right` and `found`. A request that takes longer, or too much memory, ends it.
"""

import contextlib
import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import Any

import math_verify
import sympy
from math_verify import grader

MEMORY = 2**31
"""Bytes of address space."""
_RELATIVE_TOLERANCE = 1e-5

_numeric_eq = grader.sympy_numeric_eq


def compare(gold: str, output: str) -> dict[str, Any]:
    """What math-verify reads from an output, and whether it is what it reads from the gold."""
    expected = math_verify.parse(gold, parsing_timeout=None)
    found = math_verify.parse(output, parsing_timeout=None)
    # Not symmetric: gold first.
    right = math_verify.verify(expected, found, timeout_seconds=None)
    return {"right": bool(right), "found": _shown(found)}


def _shown(found: list[Any]) -> str:
    with contextlib.suppress(ValueError):  # an integer of too many digits to be written
        return str(found[-1]) if found else ""
    return ""


def numeric_eq(one: Any, other: Any, *digits: int) -> bool:
    """math-verify's equality of numbers, which rounds: to 6 places, and what is tiny to zero."""
    return bool(_numeric_eq(one, other, *digits)) and not _are_apart(one, other)


def _are_apart(one: Any, other: Any) -> bool:
    """Whether two numbers differ by more than a small part of them."""
    both = isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr)
    if not both or one.has(sympy.UnevaluatedExpr) or other.has(sympy.UnevaluatedExpr):
        return False  # the latter are percentages
    names = sorted(one.free_symbols | other.free_symbols, key=str)
    point = {name: sympy.Rational(137 + 29 * place, 100) for place, name in enumerate(names)}
    ours, theirs = (sympy.N(side.subs(point).doit(), 30) for side in (one, other))
    if not (ours.is_number and theirs.is_number and ours.is_finite and theirs.is_finite):
        return False
    return bool(abs(ours - theirs) > _RELATIVE_TOLERANCE * max(abs(ours), abs(theirs)))


def serve() -> None:
    """Answer requests until there are no more."""
    with contextlib.suppress(ImportError):  # where the system has no such limits
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    grader.sympy_numeric_eq = numeric_eq
    _say("ready")
    with Path(os.devnull).open("w") as nowhere:
        for line in sys.stdin:
            request = json.loads(line)
            # A thread of its own in C: it ends what no signal interrupts.
            faulthandler.dump_traceback_later(request.pop("seconds"), exit=True, file=nowhere)
            answer = compare(**request)
            faulthandler.cancel_dump_traceback_later()
            _say(json.dumps(answer))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
