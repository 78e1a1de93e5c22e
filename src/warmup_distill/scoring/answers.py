"""Final answers in GSM8K's form, as EleutherAI's lm-evaluation-harness extracts and compares them.

Source: its task `gsm8k`, filters `strict-match` and `flexible-extract`.
"""

import re

_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def strict_answer(text: str) -> str | None:
    """What follows the first `#### `, or None.

    Example:
        >>> strict_answer("He pays 2*600=1200.\\n#### 1,200.")
        '1,200.'
    """
    match = _STRICT.search(text)
    return match.group(1) if match else None


def flexible_answer(text: str) -> str | None:
    """The last thing that looks like a number, or None; a closing `...` is one, as in the source.

    Example:
        >>> flexible_answer("so he pays $1,200 in 3 weeks.")
        '3'
    """
    found = _FLEXIBLE.findall(text)
    return found[-1].strip() if found else None


def comparable(text: str) -> str:
    """Without commas, dollars, what comes before `#### `, and one final dot; in lower case."""
    plain = text.replace(",", "").replace("$", "")
    return plain.rpartition("#### ")[2].removesuffix(".").lower()


def is_right(completion: str, answer: str) -> bool:
    """Whether the completion's `#### number` is the expected answer.

    Args:
        completion: a worked solution that should end in `#### number`.
        answer: a number, or a worked solution that ends in one.
    """
    found = strict_answer(completion)
    return found is not None and comparable(found) == comparable(answer.strip())
