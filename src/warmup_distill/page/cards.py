"""Pairs for the viewer: text of single tokens, margins, and what a rewrite did to the answer."""

from collections.abc import Sequence
from typing import Any

from warmup_distill.engines.mismatch import margins
from warmup_distill.foreign.showing import clean
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.scoring.answers import is_right

VERDICTS = {
    "wrong_to_right": "wrong \N{RIGHTWARDS ARROW} right",
    "right_to_wrong": "right \N{RIGHTWARDS ARROW} wrong",
    "right_to_right": "right \N{RIGHTWARDS ARROW} right",
    "wrong_to_wrong": "wrong \N{RIGHTWARDS ARROW} wrong",
}
"""From the student's own completion to the teacher's version, and how the page says it."""

_LARGEST_MARGIN = 999.0  # JSON has no infinity


def margin_edges(threshold: float) -> list[float]:
    """The margins, in nats, between the viewer's colours; the last is η itself.

    Example:
        >>> margin_edges(4.0)
        [-2.0, -0.5, 0.5, 2.0, 4.0]
    """
    return [threshold * share for share in (-1 / 2, -1 / 8, 1 / 8, 1 / 2, 1)]


def verdict_of(pair: Pair, answer: str | None) -> str | None:
    """A key of `VERDICTS`; None where there is no answer to hold the two sides to."""
    if answer is None:
        return None
    before, after = (
        "right" if is_right(text, answer) else "wrong" for text in (pair.rejected, pair.chosen)
    )
    return f"{before}_to_{after}"


def make_card(
    pair: Pair, prompt: Prompt | None, rollout: Rollout | None, tokenizer: Any
) -> dict[str, Any]:
    """What the viewer shows of a pair, ready for JSON.

    Student tokens are `[text, margin]`, the margin None where the teacher did not check.
    """
    student = token_texts(tokenizer, pair.rejected_ids)
    known = margins(rollout.student_logprobs, rollout.teacher_logprobs) if rollout else []
    tokens = [
        [text, _rounded(known[index]) if index < len(known) else None]
        for index, text in enumerate(student)
    ]
    cut = pair.mismatch_index
    return {
        "prompt_id": clean(pair.prompt_id),
        "sample": pair.sample_index,
        "verdict": verdict_of(pair, prompt.answer if prompt else None),
        "prompt": clean(prompt.text if prompt else pair.prompt),
        "cut": cut,
        "margin": _rounded(rollout.margin) if rollout else None,
        "prefix": tokens[:cut],
        "student": tokens[cut:],
        "teacher": "".join(token_texts(tokenizer, pair.chosen_ids)[cut:]),
    }


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text that each token adds to the one before it, fit for display.

    Some tokenizers drop the space before a first word, so a token decoded by itself would lose
    it. A token that is a part of a character shows as U+FFFD.
    """
    texts = []
    for previous, current in zip([None, *ids], ids, strict=False):
        alone = _decode(tokenizer, [current])
        if previous is None:
            texts.append(clean(alone))
            continue
        before, both = _decode(tokenizer, [previous]), _decode(tokenizer, [previous, current])
        texts.append(clean(both.removeprefix(before) if both.startswith(before) else alone))
    return texts


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _rounded(margin: float) -> float:
    return round(min(max(margin, -_LARGEST_MARGIN), _LARGEST_MARGIN), 3)
