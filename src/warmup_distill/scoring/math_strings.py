"""Answers of competition mathematics, compared as normalised strings.

Source: Hendrycks et al. 2021, arXiv:2103.03874, as EleutherAI's lm-evaluation-harness scores its
task `hendrycks_math`.
"""

_DELETED = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")
_LONGEST_LEFT_SIDE = 2


def between_dollars(output: str) -> str:
    """What stands between the first and the last `$`; everything if there are fewer than two."""
    first, last = output.find("$"), output.rfind("$")
    return output[first + 1 : last] if first < last else output


def last_boxed(text: str) -> str | None:
    """The content of the last `\\boxed` or `\\fbox`, or None."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    rest = text[start:].removeprefix("\\boxed").removeprefix("\\fbox")
    if rest.startswith(" "):
        return rest[1:].split("$")[0]
    return braced(rest)


def braced(text: str) -> str | None:
    """The content of the braces that a text begins with; None if it does not, or never ends."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[1:place] if place else None
    return None


def same_string(one: str, other: str) -> bool:
    """Whether two answers are one string after normalisation; plainly compared if that fails."""
    try:
        return normalised(one) == normalised(other)
    except (ValueError, IndexError):
        return one == other


def normalised(answer: str) -> str:
    """An answer without line breaks, spaces, units and variants of spelling.

    Raises:
        ValueError, IndexError: it is malformed; callers then compare the answers as they are.
    """
    text = answer.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    text = _without(text, _DELETED)
    text = _before_units(text).replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    text = _right_side("0" + text if text[0] == "." else text)
    text = _braced_fractions(_braced_roots(text).replace(" ", ""))
    return _as_fraction("\\frac{1}{2}" if text == "0.5" else text)


def _without(text: str, pieces: tuple[str, ...]) -> str:
    for piece in pieces:
        text = text.replace(piece, "")
    return text


def _before_units(text: str) -> str:
    """`\\text{ ` begins a unit; two of them are an error, as in the source."""
    if "\\text{ " not in text:
        return text
    number, _ = text.split("\\text{ ")
    return number


def _right_side(text: str) -> str:
    """`k = 3` is 3 where the left side has at most two characters."""
    sides = text.split("=")
    return sides[1] if len(sides) == 2 and len(sides[0]) <= _LONGEST_LEFT_SIDE else text


def _braced_roots(text: str) -> str:
    """`\\sqrt3` is `\\sqrt{3}`; nothing after it is an error, as in the source."""
    first, *others = text.split("\\sqrt")
    return first + "".join(
        "\\sqrt" + (part if part[0] == "{" else f"{{{part[0]}}}{part[1:]}") for part in others
    )


def _braced_fractions(text: str) -> str:
    """`\\frac12` and `\\frac1{72}` with braces; left as it is where a numerator stands alone."""
    first, *others = text.split("\\frac")
    parts = []
    for part in others:
        if part[0] == "{":
            parts.append(part)
        elif len(part) < 2:
            return text
        else:
            rest = part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}"
            parts.append(f"{{{part[0]}}}{rest}")
    return first + "".join("\\frac" + part for part in parts)


def _as_fraction(text: str) -> str:
    """`a/b` of integers as `\\frac{a}{b}`; anything else around one slash is an error, as there."""
    sides = text.split("/")
    if len(sides) != 2:
        return text
    above, below = int(sides[0]), int(sides[1])
    return f"\\frac{{{above}}}{{{below}}}" if text == f"{above}/{below}" else text
