"""Where the student's samples leave the teacher, counted over the rollouts.

A margin is log q − log p of a student token, in nats; η is the threshold above which a token
mismatches. A check that stopped at the first mismatch left no margin after it.
"""

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from warmup_distill.engines.mismatch import margins
from warmup_distill.figures.chart import Caption, Chart
from warmup_distill.figures.curves import lines
from warmup_distill.figures.data import Histogram, Series
from warmup_distill.figures.histograms import bars
from warmup_distill.page.words import count, decimal, percent
from warmup_distill.records import Rollout

_MOST_BARS = 40
_MARGIN_WIDTH = 0.5
_LOWEST_MARGIN, _HIGHEST_MARGIN = -10.0, 20.0
_CURVE_STEP = 0.25


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The numbers behind the charts."""

    samples: int
    mismatching: int
    median_index: int | None
    """Half of the mismatching samples have their mismatch at this token or before it."""
    tokens: int
    """Student tokens with a margin."""
    threshold: float
    index_histogram: Histogram
    """Mismatch index; bins hold their lower edge and not their upper one."""
    margin_histogram: Histogram
    """Margin of every token; bins hold their upper edge, so that those above η are mismatches.

    What is beyond −10 or 20 nats (2 η if that is more) is counted apart.
    """
    curve: list[tuple[float, float]]
    """(η, share of samples that it would replace); η itself is one of the points."""


def survey_rollouts(rollouts: Iterable[Rollout], threshold: float) -> Survey:
    """Count mismatches and margins in one pass over the rollouts."""
    highest = max(_HIGHEST_MARGIN, 2 * threshold)
    indices: Counter[int] = Counter()
    bins: Counter[int] = Counter()
    largest: list[float] = []
    for rollout in rollouts:
        values = margins(rollout.student_logprobs, rollout.teacher_logprobs)
        bins.update(_margin_bin(value, highest) for value in values)
        largest.append(max(values, default=rollout.margin))
        if rollout.mismatch_index is not None:
            indices[rollout.mismatch_index] += 1
    return Survey(
        samples=len(largest),
        mismatching=indices.total(),
        median_index=_median(indices),
        tokens=bins.total(),
        threshold=threshold,
        index_histogram=_index_histogram(indices),
        margin_histogram=_margin_histogram(bins, highest),
        curve=_curve(sorted(largest), threshold, highest),
    )


def _margin_bin(value: float, highest: float) -> int:
    """Bin i holds margins in (i * width, (i + 1) * width].

    One bin more at either end holds what is beyond.
    """
    first, last = _margin_bins(highest)
    return min(max(math.ceil(value / _MARGIN_WIDTH) - 1, first - 1), last + 1)


def _margin_bins(highest: float) -> tuple[int, int]:
    """The first and the last bin of the scale."""
    return round(_LOWEST_MARGIN / _MARGIN_WIDTH), math.ceil(highest / _MARGIN_WIDTH) - 1


def _median(indices: Counter[int]) -> int | None:
    ordered = sorted(indices.elements())
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def _index_histogram(indices: Counter[int]) -> Histogram:
    size = max(indices, default=-1) + 1
    width = _round_width(size / _MOST_BARS)
    counts = [0] * math.ceil(size / width)
    for index, number in indices.items():
        counts[index // width] += number
    return Histogram(start=0, width=width, counts=counts)


def _round_width(least: float) -> int:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    powers = (int(10**power) for power in itertools.count())
    widths = (step * power for power in powers for step in (1, 2, 5))
    return next(width for width in widths if width >= least)


def _margin_histogram(bins: Counter[int], highest: float) -> Histogram:
    lowest, largest = _margin_bins(highest)
    first, last = (
        min(max(one, lowest), largest) for one in (min(bins, default=0), max(bins, default=-1))
    )
    return Histogram(
        start=first * _MARGIN_WIDTH,
        width=_MARGIN_WIDTH,
        counts=[bins[index] for index in range(first, last + 1)],
        below=bins[lowest - 1],
        above=bins[largest + 1],
    )


def _curve(ordered: list[float], threshold: float, highest: float) -> list[tuple[float, float]]:
    """Share of samples whose largest margin exceeds η; `ordered` are those margins, ascending."""
    if not ordered:
        return []
    end = min(max(ordered[-1], 2 * threshold), highest)
    steps = {index * _CURVE_STEP for index in range(math.ceil(end / _CURVE_STEP) + 1)}
    return [
        (eta, 1 - bisect.bisect_right(ordered, eta) / len(ordered))
        for eta in sorted(steps | {threshold})
    ]


def mismatch_charts(survey: Survey, *, stopped: bool) -> list[Chart | str]:
    """The charts of a survey, or a sentence where there is nothing to draw.

    Args:
        stopped: whether the check stopped at the first mismatch.
    """
    if not survey.samples:
        return ["There are no rollouts in this run directory yet."]
    if not survey.mismatching:
        nothing = (
            f"No sample has a mismatch: at every token the student stays within "
            f"\N{GREEK SMALL LETTER ETA} = {survey.threshold:g} nats of its teacher."
        )
        return [nothing, _margin_chart(survey, stopped), _curve_chart(survey, stopped)]
    return [_index_chart(survey), _margin_chart(survey, stopped), _curve_chart(survey, stopped)]


def _index_chart(survey: Survey) -> Chart:
    def describe(low: float, high: float, number: int) -> str:
        last = int(high) - 1
        where = f"token {int(low)}" if last == int(low) else f"tokens {int(low)} to {last}"
        return f"{where}: {_many(number, 'sample')}"

    caption = Caption(
        name="mismatch-index",
        title="Where in a sample the first mismatch falls",
        summary=f"Histogram of the mismatch index of {count(survey.mismatching)} samples; half "
        f"of them mismatch at token {survey.median_index} or before.",
    )
    return bars(
        survey.index_histogram,
        caption,
        x_label="mismatch index (tokens)",
        y_label="samples",
        describe=describe,
    )


def _margin_chart(survey: Survey, stopped: bool) -> Chart:
    def describe(low: float, high: float, number: int) -> str:
        where = f"{decimal(low)} to {decimal(high)} nats"
        if math.isinf(low):
            where = f"{decimal(high)} nats and less"
        elif math.isinf(high):
            where = f"more than {decimal(low)} nats"
        return f"{where}: {_many(number, 'token')}"

    caption = Caption(
        name="margins",
        title="How far single tokens are from the teacher",
        summary=f"Histogram of the margin of {count(survey.tokens)} student tokens, counts on a "
        f"logarithmic scale, the threshold {survey.threshold:g} nats marked.",
        note=_margin_note(survey.margin_histogram, stopped),
    )
    return bars(
        survey.margin_histogram,
        caption,
        x_label="margin, log q \N{MINUS SIGN} log p (nats)",
        y_label="tokens (logarithmic)",
        describe=describe,
        mark=(survey.threshold, _eta(survey.threshold)),
        log=True,
    )


def _margin_note(histogram: Histogram, stopped: bool) -> str | None:
    notes = []
    if histogram.below or histogram.above:
        notes.append("A bar that stands apart holds everything beyond the end of the scale.")
    if stopped:
        notes.append(
            "The check stopped at each sample's first mismatch; later tokens are not counted."
        )
    return " ".join(notes) or None


def _curve_chart(survey: Survey, stopped: bool) -> Chart:
    eta = survey.threshold
    share = dict(survey.curve)[eta]
    caption = Caption(
        name="replaced",
        title="How many samples are replaced as \N{GREEK SMALL LETTER ETA} moves",
        summary=f"Share of samples with a margin above the threshold, falling as the threshold "
        f"rises; {percent(share)} at {eta:g} nats, the threshold of this run.",
        note="Exact up to \N{GREEK SMALL LETTER ETA}. Dashed beyond it: a lower bound, since the "
        "check stopped at the first mismatch and saw no larger margin after it."
        if stopped
        else None,
    )
    return lines(
        list(_curve_parts(survey, stopped)),
        caption,
        x_label="threshold \N{GREEK SMALL LETTER ETA} (nats)",
        y_label="samples replaced (%)",
        x_mark=(eta, f"{_eta(eta)}: {percent(share)}"),
        y_range=(0, 100),
    )


def _curve_parts(survey: Survey, stopped: bool) -> Iterator[Series]:
    """The curve, split at η where it stops being exact."""
    points = [(eta, 100 * share) for eta, share in survey.curve]
    if not stopped:
        yield Series(name="share", points=points)
        return
    yield Series(name="share", points=[p for p in points if p[0] <= survey.threshold])
    yield Series(name="share", points=[p for p in points if p[0] >= survey.threshold], dashed=True)


def _eta(threshold: float) -> str:
    return f"\N{GREEK SMALL LETTER ETA} = {threshold:g}"


def _many(number: int, noun: Literal["sample", "token"]) -> str:
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"
