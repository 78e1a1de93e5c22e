"""Means with their standard errors, and differences of two models that answered the same prompts.

What a model is measured by on each prompt is a sum and a weight: a sum of nats over tokens, or a
score of weight 1. Its mean over the prompts is the ratio of the two totals, as tables show it.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over prompts and its standard error, in the unit of the values."""

    mean: float
    standard_error: float


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error (sample deviation over √n; 0 for a single value)."""
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(mean=statistics.fmean(values), standard_error=spread)


class Sum(NamedTuple):
    """What was measured on one prompt, over all its completions."""

    total: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One model's mean minus another's on the same prompts, and its 95% interval."""

    difference: float
    low: float
    high: float
    prompts: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def paired_difference(
    ours: Mapping[str, Sum], theirs: Mapping[str, Sum], *, largest: float | None = None
) -> Difference | None:
    """The difference of two means, prompt by prompt, with Student's t interval.

    A prompt's share in a difference of ratios is taken at the totals (the delta method), so that
    the shares' mean is the difference itself; for scores of weight 1 it is their plain difference.

    Where values are bounded, most prompts may not change at all, and few prompts then say too
    little of how many do. So two imaginary ones join in: one changes as much as those that do
    change (root mean square), one as much the other way. For values that are right or wrong this is
    the interval of Bonett and Price 2012, *Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data*, with t for z.

    Args:
        ours: by prompt; weights are positive.
        theirs: what is taken off.
        largest: how much a bounded value can change, for the case that none does.

    Returns:
        None where the prompts are not the same, or are too few to tell.
    """
    if ours.keys() != theirs.keys() or len(ours) < 2:
        return None
    contributions = _shares([*ours.values()]) - _shares([theirs[prompt] for prompt in ours])
    changes = contributions
    if largest is not None:
        moved = contributions[contributions != 0]
        step = math.sqrt(np.square(moved).mean()) if len(moved) else largest
        changes = np.append(contributions, [step, -step])
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(changes) - 1) * stats.sem(changes)
    bound = math.inf if largest is None else largest
    low, high = np.clip([changes.mean() - half, changes.mean() + half], -bound, bound)
    return Difference(
        difference=float(contributions.mean()), low=float(low), high=float(high), prompts=len(ours)
    )


def _shares(sums: Sequence[Sum]) -> NDArray[np.float64]:
    """What each prompt adds to the ratio of the totals: their mean is that ratio."""
    totals, weights = np.array(sums, dtype=np.float64).T
    ratio, relative = totals.sum() / weights.sum(), weights / weights.mean()
    shares: NDArray[np.float64] = totals / weights.mean() + ratio * (1 - relative)
    return shares
