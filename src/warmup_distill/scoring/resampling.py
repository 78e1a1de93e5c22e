"""How far a mean over prompts would move with other prompts: the bootstrap, made wide enough.

A plain bootstrap of n values is too narrow: it takes the sample's deviation for the population's,
and the normal distribution for Student's. Its confidence level is raised by what that takes off
(Hesterberg 2015, *What Teachers Should Know About the Bootstrap*, section 3.3).
"""

import math
from functools import partial

import numpy as np
from scipy import stats

from warmup_distill.scoring.statistics import Values

CONFIDENCE = 0.95

RESAMPLES = 4_999
"""So many move an end by about 2% of the distance from the mean."""
FEW = 10
"""Below this resampling knows too little: what is drawn again cannot reach beyond what is there."""
_AT_ONCE = 1_000_000
"""Values that are drawn together, for the sake of memory."""


def student(freedom: float) -> float:
    """How many standard errors Student's t reaches to either side."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))


def reach(values: Values, *, bounded: bool) -> tuple[float, float]:
    """The ends of an interval that holds the mean of the population 95 times of 100.

    Bounded values: BCa, which follows their skew. Of values without a bound a few can make up most
    of the sum, such as the nats of two models that are nearly one. The skew of a sample is then
    chance, and BCa, which leans to its side, covers 85 to 93%; its mirror image, the basic
    interval, leans the other way. So the outer ends of both are taken (benchmarks/coverage.py).

    Args:
        values: [P], one a prompt, at least two of them.

    Returns:
        Low and high; both are the mean where all values are the same.
    """
    mean, spread = float(values.mean()), float(stats.sem(values))
    if spread <= 1e-12 * abs(mean):
        return mean, mean
    if len(values) < FEW:
        half = spread * student(len(values) - 1)
        return mean - half, mean + half
    level = _expanded(len(values))
    resample = partial(
        stats.bootstrap,
        (values,),
        np.mean,
        vectorized=True,
        batch=max(1, _AT_ONCE // len(values)),
        confidence_level=level,
    )
    found = resample(method="BCa", n_resamples=RESAMPLES, rng=np.random.default_rng(0))
    ends = [found.confidence_interval]
    if not bounded:
        again = resample(method="basic", n_resamples=0, bootstrap_result=found)
        ends.append(again.confidence_interval)
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def _expanded(size: int) -> float:
    """The confidence level at which a plain bootstrap is as wide as Student's t."""
    return 1 - 2 * float(stats.norm.sf(math.sqrt(size / (size - 1)) * student(size - 1)))
