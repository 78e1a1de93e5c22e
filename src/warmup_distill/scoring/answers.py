"""Final answers in GSM8K's form, by the strict rule of the field.

Source: EleutherAI's lm-evaluation-harness, task `gsm8k`, filter `strict-match`: the first
`#### number`; compared as text once commas, `$` and a final `.` are gone.
"""

import re

_ANSWER = re.compile(r"#### (-?[0-9.,]+)")


def final_answer(text: str) -> str | None:
    """The number after the first `#### `, or None.

    Example:
        >>> final_answer("He pays 2*600=1200.\\n#### 1,200.")
        '1200'
    """
    match = _ANSWER.search(text)
    return None if match is None else _plain(match.group(1))


def is_right(completion: str, answer: str) -> bool:
    """Whether the completion's final answer is the expected one.

    Args:
        completion: a worked solution that should end in `#### number`.
        answer: a number, or a worked solution that ends in one.
    """
    expected = final_answer(answer) or _plain(answer.strip())
    return final_answer(completion) == expected


def _plain(number: str) -> str:
    return number.replace(",", "").replace("$", "").removesuffix(".")
