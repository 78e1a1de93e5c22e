"""The final answer of a chat model that was asked to box it.

The places and their order are Qwen2.5-Math's (arXiv:2409.12122); what stands there is left whole.
"""

import re
from collections.abc import Iterator

_BEFORE, _HOPE = "final answer is $", "$. I hope"
_BOX = re.compile(r"\\?(?:boxed|fbox) ?(?=\{)|\\(?:boxed|fbox)(?![a-z])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_WITHOUT_BRACES = re.compile(r"(?:(?!\\[\])])[^$\n])*")
_BETWEEN_BOXES = re.compile(
    r"(?:[ $\\()\[\]{}]|text)*(?:,|and\b|or\b)(?:[ $\\()\[\]{},]|and\b|or\b)*(?:\w ?= ?)?"
)
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")  # GSM8K's marks, as in `2*3=<<2*3=6>>6`
_PHRASE = re.compile(r"answer is\b", re.IGNORECASE)
_MATHEMATICS = re.compile(
    r"\$\$((?:(?!\$\$).)+)\$\$"
    r"|\$(?![\s$])([^$\n]*[^$\s\\])\$(?!\d)"  # but not `$5 and $6`
    r"|\\\[((?:(?!\\\[|\\\]).)*)\\\]"
    r"|\\\(((?:(?!\\\(|\\\)).)*)\\\)",
    re.DOTALL,
)
_GOES_ON = re.compile(r" ?(?:, ?(?:and\b|or\b)?|and\b|or\b) ?(?:[$\d(-]|\\[(\[])")
_SENTENCE = re.compile(r"[^\n]*?(?=\.(?:\s|\Z)|\n|\Z)")
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_LAST = re.compile(rf"(?:(?<![\w)\]}}])-)?(?:{_NUMBER})(?: ?/ ?\d+)?(?: ?\\?%)?")


def boxed_answer(output: str) -> str | None:
    """The final answer of an output as it stands there, without the dollars around it.

    The first that applies: `final answer is $…$. I hope`; the last `\\boxed`; what follows the last
    `answer is`; the last number, with the formula that it is part of. None where there is none of
    them.
    """
    output = _CALCULATOR.sub("", output)
    for place in (_before_hope, _last_box, _after_phrase, _last_number):
        answer = place(output)
        if answer is not None:
            return bare(answer)
    return None


def boxed_list(output: str) -> str | None:
    """What the last boxes of an output list, as in `\\boxed{1}` and `\\boxed{2}`, or None."""
    boxes = [*_boxes_from_the_last(output)]
    return ", ".join(map(bare, reversed(boxes))) if len(boxes) > 1 else None


def bare(answer: str) -> str:
    """An answer without the signs around mathematics, and without bold."""
    return _MATHEMATICS.sub(_content, answer.strip().strip("*")).strip()


def _content(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)


def _before_hope(output: str) -> str | None:
    if _BEFORE not in output or _HOPE not in output:
        return None
    return output.split(_BEFORE, 1)[1].split(_HOPE, 1)[0]


def _last_box(output: str) -> str | None:
    return next(_boxes_from_the_last(output), None)


def _boxes_from_the_last(output: str) -> Iterator[str]:
    """The content of the last box, and of those before it that are joined to it as a list is."""
    after = None
    for box in reversed([*_BOX.finditer(output)]):
        content, end = _box(output, box.end(), len(output) if after is None else after)
        if after is not None and not _BETWEEN_BOXES.fullmatch(" ".join(output[end:after].split())):
            return
        yield content
        after = box.start()


def _box(output: str, start: int, end: int) -> tuple[str, int]:
    """The content of a box and where it ends: its braces, as far as they go, or a line's rest."""
    if output[start : start + 1] != "{":
        found = _WITHOUT_BRACES.match(output, start, end)
        return (found[0], found.end()) if found else ("", start)
    depth = 0
    for brace in _BRACE.finditer(output, start, end):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if depth == 0:
            return output[start + 1 : brace.start()], brace.end()
    return output[start + 1 : end], end


def _after_phrase(output: str) -> str | None:
    phrases = [*_PHRASE.finditer(output)]
    if not phrases:
        return None
    rest = output[phrases[-1].end() :].lstrip().lstrip(":*").lstrip()
    mathematics = _MATHEMATICS.match(rest)
    if mathematics and not _GOES_ON.match(rest, mathematics.end()):
        return mathematics[0]
    sentence = _SENTENCE.match(rest)
    return sentence[0].rstrip("!") or None if sentence else None


def _last_number(output: str) -> str | None:
    numbers = [*_LAST.finditer(output)]
    if not numbers:
        return None
    last = numbers[-1]
    for formula in _MATHEMATICS.finditer(output):
        if formula.start() < last.start() < formula.end():
            content = _content(formula)
            return content if "," in content else content.rpartition("=")[2]
    return last[0]
