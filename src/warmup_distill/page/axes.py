"""Scales: from values to positions in the viewBox of a chart, with round ticks.

The viewBox is WIDTH by HEIGHT with y downward; the plot's corners are (LEFT, TOP) and
(RIGHT, BOTTOM).
"""

import math
from dataclasses import dataclass

from warmup_distill.page.words import decimal

WIDTH, HEIGHT = 520, 290
LEFT, RIGHT, TOP, BOTTOM = 76, 500, 20, 228


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale from values to positions, and what it measures, unit included."""

    label: str
    low: float
    high: float
    start: float
    """Position of `low`; `end` is that of `high`."""
    end: float
    log: bool = False
    whole: bool = False
    """Whether it counts, so that there is nothing between whole numbers."""

    def at(self, value: float) -> float:
        """The position of a value; what is beyond the scale is put at its end."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of round values, about five."""
        if self.log:
            values = [10.0**power for power in range(math.floor(math.log10(self.high)) + 1)]
            return [(self.at(value), _label(value, 0)) for value in values]
        step = nice_step(max((self.high - self.low) / 5, 1 if self.whole else 0))
        digits = max(0, -math.floor(math.log10(step)))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [index * step for index in range(first, last + 1)]
        return [(self.at(value), _label(value, digits)) for value in values]


def nice_step(rough: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `rough`.

    Example:
        >>> nice_step(0.3), nice_step(7)
        (0.5, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


def _label(value: float, digits: int) -> str:
    """Of a tick; thousands are shortened where they would be too wide for the margin."""
    return f"{value / 1000:,g}k" if abs(value) >= 10_000 else decimal(value, digits)


def across(
    label: str,
    low: float,
    high: float,
    *,
    start: float = LEFT,
    end: float = RIGHT,
    whole: bool = False,
) -> Axis:
    """A horizontal axis over the whole plot, or a part of it."""
    high = high if high > low else low + 1
    return Axis(label=label, low=low, high=high, start=start, end=end, whole=whole)


def upward(label: str, low: float, high: float, *, log: bool = False, whole: bool = False) -> Axis:
    """A vertical axis that ends on a tick, or a little above the highest bar if logarithmic."""
    high = high if high > low else low + 1
    if log:
        return Axis(label=label, low=low, high=high * 1.3, start=BOTTOM, end=TOP, log=True)
    step = nice_step(max((high - low) / 5, 1 if whole else 0))
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Axis(label=label, low=low, high=high, start=BOTTOM, end=TOP, whole=whole)
