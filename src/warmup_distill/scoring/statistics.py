"""Means with their standard errors."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over prompts and its standard error, in the unit of the values."""

    mean: float
    standard_error: float


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error (sample deviation over √n; 0 for a single value)."""
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(mean=statistics.fmean(values), standard_error=spread)
