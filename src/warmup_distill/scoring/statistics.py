"""Means over prompts, and what each completion adds to them.

What a model is measured by on a completion is a sum and a weight: a sum of nats over its tokens, or
a score of weight 1. Its mean over the prompts is the ratio of the two totals, as tables show it.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


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
    """What was measured on one completion."""

    total: float
    weight: float


Measured = Mapping[str, Sequence[Sum]]
"""By prompt, a sum for each of its completions."""


def shares(seeds: Sequence[Measured]) -> Values:
    """What each completion adds to the ratio of the totals of its training seed.

    Taken at the totals (the delta method), so that the mean over a seed's shares is that ratio. For
    scores of weight 1 a share is the score itself.

    Args:
        seeds: of each training seed what was measured, on the same prompts; weights are positive.

    Returns:
        [S, P, K]: by seed, prompt in the order of their names, and completion. Where prompts have
        unlike numbers of completions, K is 1: the mean over each prompt's.
    """
    sums = np.array(_rectangle(seeds), dtype=np.float64)
    totals, weights = sums[..., 0], sums[..., 1]
    mean_weight = weights.mean(axis=(1, 2), keepdims=True)
    ratio = totals.mean(axis=(1, 2), keepdims=True) / mean_weight
    found: Values = ratio + (totals - ratio * weights) / mean_weight
    return found


def _rectangle(seeds: Sequence[Measured]) -> list[list[Sequence[Sum]]]:
    rows = [[measured[prompt] for prompt in sorted(measured)] for measured in seeds]
    if len({len(samples) for row in rows for samples in row}) == 1:
        return rows
    return [[[Sum(*np.mean(samples, axis=0))] for samples in row] for row in rows]
