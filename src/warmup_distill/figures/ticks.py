"""Round values along an axis, and how they are written."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis

_MOST = 5
"""Steps along an axis, about."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def label(value: float) -> str:
    """A value in a few characters: the margin has room for no more.

    Example:
        >>> label(-0.25), label(5000), label(12_000), label(3e15)
        ('−0.25', '5,000', '12k', '3 × 10¹⁵')
    """
    value = round(value, 12)
    if abs(value) >= 1e6:
        power = math.floor(math.log10(abs(value)) + 1e-9)
        factor = f"{value / 10**power:.10g} × ".replace("-", "−")
        raised = f"10{str(power).translate(_RAISED)}"
        return raised if factor == "1 × " else factor + raised
    short = f"{value / 1000:,.10g}k" if abs(value) >= 10_000 else f"{value:,.10g}"
    return short.replace("-", "−")


def steps(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from at most `low` to at least `high`."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(nbins=_MOST, steps=[1, 2, 5, 10], integer=whole)
    return [float(value) for value in locator.tick_values(low, high if high > low else low + 1)]


def powers(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`; where that is fewer than two, 2 and 5 times them too."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        found = [value for value in values if low <= value <= high]
        if len(found) > 1:
            break
    return found


def put(axis: "Axis", values: list[float]) -> None:
    """The ticks of an axis, and no others."""
    axis.set_ticks(values, [label(value) for value in values])
    axis.set_ticks([], minor=True)
