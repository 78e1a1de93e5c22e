"""Rouge-L and exact match as the papers of the field quote them, in every script.

Source: MiniLLM's `rouge_metric.py` (arXiv:2306.08543), which DSKD and DistiLLM use unchanged. It
reads the letters a to z and digits alone, so other scripts score 0 there; what is different here:
references with other characters (`words.py`), and exact match keeps the marks that numbers need.
"""

from collections.abc import Sequence

import regex

from warmup_distill.scoring.words import one_form, tokenizer_for

OFTEN = 64
"""Times that a word occurs for its bits to be kept; those of all would take the text's square."""


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """The best Rouge-L F-measure over the references, stemmed, 0 to 100."""
    return max(100 * _f_measure(prediction, reference) for reference in references)


def _f_measure(prediction: str, reference: str) -> float:
    """2PR / (P + R): twice what both have in common, over what they have."""
    tokens = tokenizer_for(reference)
    found, expected = tokens(prediction), tokens(reference)
    common = common_length(found, expected)
    return 2 * common / (len(found) + len(expected)) if common else 0.0


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, in memory that grows with the texts alone.

    Source: Hyyrö 2004, *Bit-parallel LCS-length computation revisited*: a row of the usual table
    is one integer, with a 0 wherever the length grows.
    """
    places: dict[str, list[int]] = {}
    for place, token in enumerate(one):
        places.setdefault(token, []).append(place)
    often = {t: _bits(at, len(one)) for t, at in places.items() if len(at) >= OFTEN}
    everywhere = (1 << len(one)) - 1
    row = everywhere
    for token in other:
        found = often.get(token) or _bits(places.get(token, ()), len(one))
        if matches := row & found:
            row = ((row + matches) | (row - matches)) & everywhere
    return len(one) - row.bit_count()


def _bits(places: Sequence[int], count: int) -> int:
    """An integer with these bits, of `count` in all."""
    row = bytearray(count // 8 + 1)
    for place in places:
        row[place // 8] |= 1 << place % 8
    return int.from_bytes(row, "little")


def exact_match(prediction: str, references: Sequence[str]) -> bool:
    """Whether the prediction is one of the references but for case, punctuation and spaces.

    The signs of numbers are no punctuation: `-5` is not `5`, and `3.5` is not `35`.
    """
    return _plain(prediction) in map(_plain, references)


_MARK = r"\p{P}$^`|~"
_THOUSANDS = regex.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_KEPT = regex.compile(
    rf"[^{_MARK}]"
    rf"|(?<=\d)[{_MARK}](?=\d)"  # decimal points, and 3/4, 10:30, 2-3
    r"|(?<![\p{L}\p{N}])-(?=\.?\d)"  # minus
    r"|(?<![\d.])\.(?=\d)"
)


def _plain(text: str) -> str:
    """What is compared; a text of nothing but punctuation is compared as it is."""
    formed = one_form(text).replace("\N{MINUS SIGN}", "-")
    kept = "".join(_KEPT.findall(_THOUSANDS.sub("", formed)))
    return " ".join((kept if kept.strip() else formed).split())
