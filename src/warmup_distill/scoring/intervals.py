"""95% intervals of means and of differences, over prompts and over training seeds.

Letters: S training seeds, P prompts, K completions of each prompt. All seeds are asked the same
prompts, so an error has three sources, which are told apart: what decoding draws, which prompts
there are, and what another training seed would have changed.

Few seeds want Student's t: of three, resampling could not reach beyond the smallest and the largest
mean, where t with two degrees of freedom reaches 2.5 of their deviations. So the interval over
several is put together from two that are independent, as the root of the sum of the squares (MOVER,
Zou and Donner 2008, *Construction of confidence limits about effect measures*):

- t with S − 1 degrees of freedom on the means of the seeds. They differ by all that is new in each:
  the training, what decoding drew, and how the training changed single prompts.
- the bootstrap over the mean of each prompt, scaled down to what the seeds have in common: prompts
  that are hard or easy in all of them.

Leaving out of the first what decoding alone explains would halve it where training hardly varies;
of three seeds that covers as little as 91%, since their scatter is small by chance too often.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from warmup_distill.scoring.resampling import reach, student
from warmup_distill.scoring.statistics import Measured, Values, shares


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Standard errors of a mean by what they come from; None where that cannot be known."""

    prompts: float
    """Which prompts there are; decoding as well where there is one completion of each."""
    decoding: float | None
    """What was drawn: the same prompts would be answered otherwise another time."""
    training: float | None
    """What another training seed would change."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean, or a difference of two, and its 95% interval."""

    mean: float
    low: float
    high: float
    prompts: int
    seeds: int = 1
    is_paired: bool = True
    """Of a difference: whether both models answered the same prompts."""
    below: float
    """How far it reaches down by what more prompts would make smaller; `above` likewise."""
    above: float
    training: float = 0.0
    """How far it reaches to either side by what only more training seeds would."""
    errors: Errors

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    @property
    def prompts_to_tell(self) -> int | None:
        """About how many prompts more would leave zero out, if the mean stayed what it is.

        None where the interval is clear, and where no number would do.
        """
        beside = self.mean**2 - self.training**2
        if self.is_clear or beside <= 0:
            return None
        toward_zero = self.below if self.mean > 0 else self.above
        return max(1, math.ceil(self.prompts * (toward_zero**2 / beside - 1)))


def interval(seeds: Sequence[Measured], *, largest: float | None = None) -> Interval | None:
    """The mean of one model.

    Args:
        seeds: what was measured of each of its trainings, on the same prompts.
        largest: values are 0 to this, if they are bounded.

    Returns:
        None where there are fewer than two prompts.
    """
    if not _same_prompts(seeds) or len(seeds[0]) < 2:
        return None
    # One prompt all wrong and one all right join in, for the case that none is, or all are:
    # Agresti and Caffo 2000, *Simple and effective confidence intervals for proportions*.
    imaginary = [] if largest is None else [0.0, largest]
    return _mean(shares(seeds), imaginary, 0.0, largest)


def difference(
    ours: Sequence[Measured], theirs: Sequence[Measured], *, largest: float | None = None
) -> Interval | None:
    """One model's mean minus another's.

    Paired where both answered the same prompts: by prompt, by completion and by seed, as they
    share random numbers. Where values are bounded, most prompts may not change at all, and few
    prompts then say too little of how many do. So two imaginary ones join in: one changes as much
    as those that do change (root mean square), one as much the other way, as Bonett and Price do
    for answers that are right or wrong (2012, *Adjusted Wald confidence interval for a difference
    of binomial proportions based on paired data*).

    Args:
        ours: of each training seed what was measured on each prompt.
        theirs: what is taken off.
        largest: how much a bounded value can change; values are 0 to this then.

    Returns:
        None where seeds of one model have unlike prompts, or there are fewer than two.
    """
    if not _same_prompts([*ours, *theirs]) or len(ours) != len(theirs):
        return _unpaired(ours, theirs, largest)
    if len(ours[0]) < 2:
        return None
    mine, other = shares(ours), shares(theirs)
    if mine.shape != other.shape:
        mine, other = (one.mean(axis=2, keepdims=True) for one in (mine, other))
    changes = mine - other
    imaginary = [] if largest is None else [_step(changes, largest), -_step(changes, largest)]
    return _mean(changes, imaginary, None if largest is None else -largest, largest)


def _same_prompts(seeds: Sequence[Measured]) -> bool:
    return bool(seeds) and all(one.keys() == seeds[0].keys() for one in seeds)


def _step(changes: Values, largest: float) -> float:
    """How much a prompt changes, of those that do."""
    means = changes.mean(axis=(0, 2))
    moved = means[means != 0]
    return math.sqrt(np.square(moved).mean()) if len(moved) else largest


def _mean(
    values: Values, imaginary: Sequence[float], smallest: float | None, largest: float | None
) -> Interval:
    """Of values [S, P, K] with prompts beside them that nobody asked."""
    seeds, prompts, _ = values.shape
    mean = float(values.mean())
    cells = np.hstack([values.mean(axis=2), np.tile(imaginary, (seeds, 1))])
    low, high = reach(cells.mean(axis=0), bounded=largest is not None)
    spread = _spread(cells)
    times = student(seeds - 1) if seeds > 1 else 0.0
    again, training = times * math.sqrt(spread.cells), times * math.sqrt(spread.training)
    below, above = (
        math.hypot(spread.in_common * max(side, 0.0), again) for side in (mean - low, high - mean)
    )
    ends = np.clip(
        [mean - math.hypot(below, training), mean + math.hypot(above, training)],
        -math.inf if smallest is None else smallest,
        math.inf if largest is None else largest,
    )
    return Interval(
        mean=mean, low=float(ends[0]), high=float(ends[1]), prompts=prompts, seeds=seeds,
        below=below, above=above, training=training, errors=_errors(values, spread),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """Squared standard errors of the mean, by analysis of variance: prompts crossed with seeds."""

    prompts: float
    """Of the prompts' means."""
    training: float
    """Of the seeds' means, what single cells do not explain."""
    cells: float
    """The rest of it: what decoding drew, and how training changed single prompts."""
    in_common: float
    """Which share of the prompts' standard error all seeds have in common, 0 to 1."""


def _spread(cells: Values) -> _Spread:
    """Of means [S, P]."""
    seeds, prompts = cells.shape
    over_prompts = float(np.square(stats.sem(cells.mean(axis=0))))
    if seeds == 1:
        return _Spread(prompts=over_prompts, training=0.0, cells=0.0, in_common=1.0)
    over_seeds = float(np.square(stats.sem(cells.mean(axis=1))))
    rest = cells - cells.mean(axis=0) - cells.mean(axis=1, keepdims=True) + cells.mean()
    anyway = float(np.square(rest).sum()) / (seeds - 1) / (prompts - 1) / cells.size
    common = max(over_prompts - anyway, 0.0)
    return _Spread(
        prompts=over_prompts,
        training=max(over_seeds - anyway, 0.0),
        cells=min(over_seeds, anyway),
        in_common=math.sqrt(common / over_prompts) if common else 0.0,
    )


def _errors(values: Values, spread: _Spread) -> Errors:
    seeds, _, samples = values.shape
    drawn = float(values.var(axis=2, ddof=1).mean()) / values.size if samples > 1 else None
    return Errors(
        prompts=math.sqrt(max(spread.prompts - (drawn or 0.0), 0.0)),
        decoding=None if drawn is None else math.sqrt(drawn),
        training=math.sqrt(spread.training) if seeds > 1 else None,
    )


def _unpaired(
    ours: Sequence[Measured], theirs: Sequence[Measured], largest: float | None
) -> Interval | None:
    """Both intervals put together as independent ones are: where ours reaches up, theirs down."""
    mine, other = interval(ours, largest=largest), interval(theirs, largest=largest)
    if mine is None or other is None:
        return None
    mean = mine.mean - other.mean
    below, above = math.hypot(mine.below, other.above), math.hypot(mine.above, other.below)
    training = math.hypot(mine.training, other.training)
    bound = math.inf if largest is None else largest
    return Interval(
        mean=mean,
        low=max(mean - math.hypot(below, training), -bound),
        high=min(mean + math.hypot(above, training), bound),
        prompts=min(mine.prompts, other.prompts),
        seeds=min(mine.seeds, other.seeds),
        is_paired=False,
        below=below,
        above=above,
        training=training,
        errors=Errors(
            prompts=math.hypot(mine.errors.prompts, other.errors.prompts),
            decoding=_together(mine.errors.decoding, other.errors.decoding),
            training=_together(mine.errors.training, other.errors.training),
        ),
    )


def _together(mine: float | None, other: float | None) -> float | None:
    return None if mine is None or other is None else math.hypot(mine, other)
