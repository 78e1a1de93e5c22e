"""What drawing, checking and scoring ran, counted from what they left.

So the counts are the same however often the work was interrupted, and whoever did it: a prompt runs
once for all completions that are drawn or checked together; a completion of n tokens feeds all but
the last of them and predicts n. A model that takes the plain path shares nothing, and runs what
comes before a completion anew.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Literal

from warmup_distill.ledger.passes import NOTHING, Pass
from warmup_distill.records import Prediction, Rollout

Role = Literal["student", "teacher"]
Work = Literal["sample", "score", "train"]
Passes = dict[tuple[Role, Work], Pass]

ROLLING: Passes = {
    ("student", "sample"): NOTHING,
    ("teacher", "score"): NOTHING,
    ("teacher", "sample"): NOTHING,
    ("student", "score"): NOTHING,
}
"""The work of rollouts, in its order."""


def of_rollouts(
    prompts: Mapping[str, int], rollouts: Iterable[Rollout], apart: Collection[Role]
) -> Passes:
    """Student samples, teacher checks and continues, student scores the continuations.

    Args:
        prompts: tokens of each prompt, by its id.
        rollouts: those of a prompt together.
        apart: models that take the plain path.
    """
    found = dict(ROLLING)
    for prompt, some in groupby(rollouts, key=lambda one: one.prompt_id):
        length, group = prompts[prompt], list(some)
        drawn = [len(one.completion_ids) for one in group]
        found["student", "sample"] += of_drawn(length, drawn, "student" in apart)
        checked = [len(one.completion_ids) if one.scored is None else one.scored for one in group]
        found["teacher", "score"] += of_drawn(length, checked, "teacher" in apart)
        for one in group:
            if one.continuation_ids:
                cut, new = length + (one.mismatch_index or 0), len(one.continuation_ids)
                found["teacher", "sample"] += _behind(cut, new, "teacher" in apart)
                found["student", "score"] += _behind(cut, new, "student" in apart)
    return found


def of_drawn(prompt: int, completions: Sequence[int], apart: bool = False) -> Pass:
    """Completions of one prompt, drawn or checked together; all by their lengths."""
    found = NOTHING if apart else Pass.of(0, prompt)
    for length in completions:
        found += _behind(prompt, length, apart)
    return found


def of_row(prompt: int, completion: int) -> Pass:
    """A prompt with its completion, run at once."""
    return Pass.of(0, prompt + completion - 1, completion)


def of_predictions(
    prompts: Mapping[tuple[str, str], int],
    predictions: Iterable[Prediction],
    apart: Collection[Role],
) -> Passes:
    """An evaluation: a model draws, and it and the teacher are compared on some of that.

    Args:
        prompts: tokens of each prompt, by benchmark and id.
        predictions: those of a prompt in one decoding together, by their sample index.
    """
    found: Passes = defaultdict(Pass)
    for key, some in groupby(predictions, key=lambda o: (o.benchmark, o.decoding, o.prompt_id)):
        length, group = prompts[key[0], key[2]], list(some)
        for drawn in _drawn_together([one.tokens for one in group]):
            found["student", "sample"] += of_drawn(length, drawn, "student" in apart)
        for one in group:
            if one.has_mismatch is not None:
                found["student", "score"] += of_row(length, one.tokens)
                found["teacher", "score"] += of_row(length, one.tokens)
    return found


def _drawn_together(lengths: Sequence[int]) -> Iterator[Sequence[int]]:
    """The first completion of a prompt is drawn by itself."""
    yield lengths[:1]
    if len(lengths) > 1:
        yield lengths[1:]


def _behind(context: int, completion: int, apart: bool) -> Pass:
    own = Pass.of(context, completion - 1, completion)
    return Pass.of(0, context) + own if apart else own
