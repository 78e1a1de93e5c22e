"""Two models of a run held against each other, prompt by prompt, by every measure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from warmup_distill.page.measures import MEASURES, Measure
from warmup_distill.page.table import TableRow
from warmup_distill.page.words import rounded
from warmup_distill.scoring.intervals import Interval, difference
from warmup_distill.scoring.statistics import Sum
from warmup_distill.store.artifacts import read_records

Sums = dict[str, dict[str, list[Sum]]]
"""By measure and prompt, one for each completion."""

TOO_MANY = 100
"""Times as many prompts: more than anybody would ask."""


Verdict = Literal["better", "worse", "unclear"]


def verdict_of(effect: Interval, measure: Measure) -> Verdict:
    """What the interval of ours minus theirs says of ours."""
    if not effect.is_clear:
        return "unclear"
    return "better" if (effect.low > 0) == measure.higher_is_better else "worse"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What one measure says of two models; values in the measure's unit, shares 0 to 1."""

    measure: Measure
    ours: float
    theirs: float
    change: float
    """Ours minus theirs."""
    effect: Interval | None
    """The same with its interval; None where the values of single prompts are not known."""

    @property
    def strip(self) -> tuple[float, float, float] | None:
        """Change and ends of the interval on a line from −100 to 100 whose right is better."""
        if self.effect is None:
            return None
        widest = max(abs(self.effect.low), abs(self.effect.high)) or 1.0
        scale = (100 if self.measure.higher_is_better else -100) / widest
        change, *ends = (
            round(scale * one, 1) for one in (self.change, self.effect.low, self.effect.high)
        )
        return change, min(ends), max(ends)

    @property
    def interval(self) -> str:
        """In words."""
        if self.effect is None:
            return "pairing not known"
        low, high = (self.measure.show_change(end) for end in (self.effect.low, self.effect.high))
        return f"95% interval {low} to {high}"

    @property
    def verdict(self) -> Verdict | Literal["unknown"]:
        """What the interval says of ours."""
        return "unknown" if self.effect is None else verdict_of(self.effect, self.measure)

    @property
    def to_tell(self) -> str | None:
        """What it would take to tell an unclear difference, if it stayed what it is."""
        if self.effect is None or self.effect.is_clear:
            return None
        if self.effect.training >= abs(self.effect.mean) > 0:
            return "more training seeds"
        more = self.effect.prompts_to_tell
        if more is None or more > TOO_MANY * self.effect.prompts:
            return f"over {TOO_MANY} times as many prompts"
        return f"about {rounded(more)} prompts more"


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What `predictions.parquet` says of a completion besides its text.

    What has a default was not there yet in the first versions.
    """

    benchmark: str
    decoding: Literal["greedy", "sampled"]
    prompt_id: str
    value: float
    tokens: int | None = None
    has_mismatch: bool | None = None
    margin: float | None = None
    forward_kl: float | None = None
    reverse_kl: float | None = None


def contrasts(ours: TableRow, theirs: TableRow, our: Sums, their: Sums) -> Iterator[Contrast]:
    """One for each measure that both rows have.

    Args:
        our: what `read_sums` knows of the prompts of `ours`; `their` likewise.
    """
    for measure in MEASURES:
        mine, other = ours.value(measure.key), theirs.value(measure.key)
        if mine is None or other is None:
            continue
        effect = difference(
            [our.get(measure.key, {})], [their.get(measure.key, {})], largest=measure.largest
        )
        change = effect.mean if effect else mine - other
        yield Contrast(measure=measure, ours=mine, theirs=other, change=change, effect=effect)


def read_sums(folder: Path, model: str) -> dict[str, Sums]:
    """By benchmark what was measured on each completion, as far as the run directory keeps it."""
    path = folder / "evaluate" / model / "predictions.parquet"
    found: dict[str, Sums] = {}
    for one in read_records(path, _Judged) if path.is_file() else []:
        sums = found.setdefault(one.benchmark, {})
        for key, value in _measured(one):
            sums.setdefault(key, {}).setdefault(one.prompt_id, []).append(value)
    return found


def _measured(one: _Judged) -> Iterator[tuple[str, Sum]]:
    yield one.decoding, Sum(one.value, 1)
    if one.has_mismatch is None:
        return
    yield "mismatch_share", Sum(one.has_mismatch, 1)
    tokens = one.tokens or 0
    yield "mean_margin", Sum(one.margin or 0.0, tokens)
    yield "forward_kl", Sum(one.forward_kl or 0.0, tokens)
    yield "reverse_kl", Sum(one.reverse_kl or 0.0, tokens)
