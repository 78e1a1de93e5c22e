"""Two models of a run held against each other, prompt by prompt, by every measure."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from warmup_distill.page.measures import MEASURES, Measure
from warmup_distill.page.table import TableRow
from warmup_distill.scoring.statistics import Difference, Sum, paired_difference
from warmup_distill.store.artifacts import read_records

Sums = dict[str, dict[str, Sum]]
"""By measure and prompt."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What one measure says of two models; values in the measure's unit, shares 0 to 1."""

    measure: Measure
    ours: float
    theirs: float
    change: float
    """Ours minus theirs."""
    paired: Difference | None
    """The same with its interval; None where the values of single prompts are not known."""

    @property
    def strip(self) -> tuple[float, float, float] | None:
        """Change and ends of the interval on a line from −100 to 100 whose right is better."""
        if self.paired is None:
            return None
        widest = max(abs(self.paired.low), abs(self.paired.high)) or 1.0
        scale = (100 if self.measure.higher_is_better else -100) / widest
        change, *ends = (
            round(scale * one, 1) for one in (self.change, self.paired.low, self.paired.high)
        )
        return change, min(ends), max(ends)

    @property
    def interval(self) -> str:
        """In words."""
        if self.paired is None:
            return "pairing not known"
        low, high = (self.measure.show_change(end) for end in (self.paired.low, self.paired.high))
        return f"95% interval {low} to {high}"

    @property
    def verdict(self) -> Literal["better", "worse", "unclear", "unknown"]:
        """What the interval says of ours."""
        if self.paired is None:
            return "unknown"
        if not self.paired.is_clear:
            return "unclear"
        return "better" if (self.paired.low > 0) == self.measure.higher_is_better else "worse"


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
        paired = paired_difference(
            our.get(measure.key, {}), their.get(measure.key, {}), largest=measure.largest
        )
        change = paired.difference if paired else mine - other
        yield Contrast(measure=measure, ours=mine, theirs=other, change=change, paired=paired)


def read_sums(folder: Path, model: str) -> dict[str, Sums]:
    """By benchmark what was measured on each prompt, as far as the run directory keeps it."""
    path = folder / "evaluate" / model / "predictions.parquet"
    groups: dict[tuple[str, str], dict[str, list[_Judged]]] = {}
    for one in read_records(path, _Judged) if path.is_file() else []:
        group = groups.setdefault((one.benchmark, one.decoding), {})
        group.setdefault(one.prompt_id, []).append(one)
    found: dict[str, Sums] = {}
    for (benchmark, decoding), prompts in groups.items():
        sums = found.setdefault(benchmark, {})
        for prompt, completions in prompts.items():
            for key, value in _measured(decoding, completions):
                sums.setdefault(key, {})[prompt] = value
    return found


def _measured(decoding: str, completions: list[_Judged]) -> Iterator[tuple[str, Sum]]:
    """The sums of one prompt: its completions are not independent, so they count as one."""
    yield decoding, Sum(statistics.fmean(one.value for one in completions), 1)
    checked = [one for one in completions if one.has_mismatch is not None]
    if not checked:
        return
    yield "mismatch_share", Sum(statistics.fmean(bool(one.has_mismatch) for one in checked), 1)
    tokens = sum(one.tokens or 0 for one in checked)
    yield "mean_margin", Sum(sum(one.margin or 0.0 for one in checked), tokens)
    yield "forward_kl", Sum(sum(one.forward_kl or 0.0 for one in checked), tokens)
    yield "reverse_kl", Sum(sum(one.reverse_kl or 0.0 for one in checked), tokens)
