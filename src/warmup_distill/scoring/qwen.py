"""The final answer of a chat model as Qwen2.5-Math reads and compares it, for published numbers.

Source: Qwen2.5-Math's evaluation code (arXiv:2409.12122), its extraction and its comparison, with
Hendrycks' normalisation of strings and math-verify for what is neither number nor tuple. It deletes
signs that mean something (commas, brackets, percent signs) and accepts a factor of 100; the metric
`boxed` does not.
"""

import math
import re

from warmup_distill.scoring.math_strings import normalised
from warmup_distill.scoring.verifying import verified

_NUMBER = re.compile(r"-?\d*\.?\d+")
_TUPLE = re.compile(r"[(\[].+[)\]]", re.DOTALL)
_RELATIVE_TOLERANCE = 1e-4
_DEEPEST = 50
"""Brackets within brackets; what is deeper differs."""


def qwen_answer(output: str) -> str | None:
    """The final answer of an output, normalised; None where there is no candidate.

    The first that applies: `final answer is $…$. I hope`; the last `boxed`; what follows the last
    `he answer is`, then the last `final answer is`; the last number.
    """
    found = _candidate(output)
    if found is None:
        return None
    found = re.sub(r"\n\s*", "", found).removeprefix(":")
    return tidy(found.removesuffix(".").removesuffix("/"))


def _candidate(output: str) -> str | None:
    if "final answer is $" in output and "$. I hope" in output:
        return output.split("final answer is $", 1)[1].split("$. I hope", 1)[0].strip()
    if "boxed" in output:
        return _boxed(output.split("boxed")[-1])
    for phrase in ("he answer is", "final answer is"):
        if phrase in output:
            return output.split(phrase)[-1].strip()
    numbers = _NUMBER.findall(output.replace(",", ""))
    return numbers[-1] if numbers else None


def _boxed(rest: str) -> str:
    """What follows `boxed`: the content of its braces, as far as it goes, or up to a `$`."""
    if not rest.startswith("{"):
        return rest.split("$")[0].strip()
    depth = 0
    for place, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:place]
    return rest[1:]


def tidy(answer: str) -> str:
    """An answer without dollars, units in `\\text`, percent signs, and by Hendrycks' rules."""
    text = answer.strip().rstrip(".")
    text = re.sub(r"\\text\s*{[^{}]*}$", "", text).strip() or text
    for piece in ("\\$", "$", "\\(", "\\)", "\\%", "%"):
        text = text.replace(piece, "")
    text = re.sub(r"\\text\s*{([^{}]*)}", r"\1", text)
    text = re.sub(r"(\d)\.0*$", r"\1", text)
    try:
        return normalised(text)
    except (ValueError, IndexError):
        return text.replace(" ", "")


def same_by_qwen(found: str, expected: str, depth: int = 0) -> bool:
    """Whether two tidied answers are equal: as text, as numbers, part by part, or as formulas.

    Numbers may differ by a relative 1e-4 and by a factor of 100 either way (percentages), as in
    the source.
    """
    if found.lower() == expected.lower():
        return True
    numbers = _number(found), _number(expected)
    if numbers[0] is not None and numbers[1] is not None:
        return _close(numbers[0], numbers[1])
    if not found or depth > _DEEPEST:
        return False
    if _bare(found) == _bare(expected):
        return True
    if _TUPLE.fullmatch(found) and _TUPLE.fullmatch(expected):
        parts = found[1:-1].split(","), expected[1:-1].split(",")
        if len(parts[0]) != len(parts[1]):
            return False
        return all(same_by_qwen(*pair, depth + 1) for pair in zip(*parts, strict=True))
    if found.count("=") == 1 and "=" not in expected:
        left, _, right = found.partition("=")
        return len(left.strip()) <= 2 and same_by_qwen(right, expected, depth + 1)
    return verified(found, expected)


def _bare(text: str) -> str:
    return re.sub(r"[{}()\[\]]", "", text).lower()


def _number(text: str) -> float | None:
    plain = text.replace(",", "")
    try:
        return float(plain)
    except ValueError:
        return None


def _close(found: float, expected: float) -> bool:
    candidates = (expected / 100, expected, expected * 100)
    return any(math.isclose(found, one, rel_tol=_RELATIVE_TOLERANCE) for one in candidates)
