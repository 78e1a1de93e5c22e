"""Histograms, on a plain or a logarithmic scale of counts."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from warmup_distill.figures.canvas import BAR, LEFT, RIGHT, STRONG, blank, styled
from warmup_distill.figures.chart import Caption, Chart
from warmup_distill.figures.data import Histogram, Mark
from warmup_distill.figures.marking import upright
from warmup_distill.figures.ticks import label, powers, put, steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST_ON_LOG = 0.7  # a count of 1 still gets a visible bar
_BEYOND, _APART = 14, 62
"""Points: how wide a bar for what is beyond the scale is, and how far outside the scale it ends."""

Span = tuple[float, float]


def bars(
    histogram: Histogram,
    caption: Caption,
    *,
    x_label: str,
    y_label: str,
    describe: Callable[[float, float, int], str],
    mark: Mark | None = None,
    log: bool = False,
) -> Chart:
    """A histogram of at least one count.

    Args:
        describe: words for a bar, from its low edge, its high edge and its count; an edge is
            infinite where a bar holds everything beyond the scale.
        mark: a value of x and its name; bars to the right of it are drawn in a stronger colour.
        log: counts on a logarithmic scale.
    """
    bins = histogram.bins()
    with styled(caption.name):
        figure, axes = blank(x_label, y_label)
        scale = _across(axes, histogram, mark)
        base = _upward(axes, max(count for *_, count in bins), log)
        for number, (low, high, count) in enumerate(bins):
            left, right = scale(low, high)
            axes.bar(
                left, count - base, right - left, base, align="edge", clip_on=False,
                color=STRONG if mark and low >= mark[0] - 1e-9 else BAR, linewidth=0,
                alpha=0.5 if math.isinf(high - low) else None, gid=f"told-{number}",
            )  # fmt: skip
        if mark:
            upright(axes, mark)
    told = {f"told-{number}": describe(*one) for number, one in enumerate(bins)}
    return Chart(
        caption=caption, drawn=figure, told=told, columns=("low", "high", "count"), rows=bins
    )  # fmt: skip


def _across(
    axes: "Axes", histogram: Histogram, mark: Mark | None
) -> Callable[[float, float], Span]:
    """Set the scale of the bins; where a bar begins and ends on it, from its edges."""
    marked = [mark[0]] if mark else []
    low, high = min(histogram.start, *marked, math.inf), max(histogram.end, *marked, -math.inf)
    high = high if high > low else low + 1
    apart = [_APART * bool(number) for number in (histogram.below, histogram.above)]
    point = (high - low) / (RIGHT - LEFT - sum(apart))
    left, right = low - apart[0] * point, high + apart[1] * point
    ends = (left, left + _BEYOND * point), (right - _BEYOND * point, right)
    values = [v for v in steps(low, high, whole=isinstance(histogram.width, int))
              if low <= v <= high]  # fmt: skip
    names = [label(value) for value in values]
    for name, number, span in (
        (f"≤ {label(histogram.start)}", histogram.below, ends[0]),
        (f"> {label(histogram.end)}", histogram.above, ends[1]),
    ):
        if number:
            values, names = [*values, sum(span) / 2], [*names, name]
    axes.set_xticks(values, names)
    axes.set_xlim(left, right)

    def place(low: float, high: float) -> Span:
        if math.isinf(low) or math.isinf(high):
            return ends[math.isinf(high)]
        return low, high - min(point, 0.3 * (high - low))  # a gap between bars

    return place


def _upward(axes: "Axes", most: int, log: bool) -> float:
    """Set the scale of the counts; what bars stand on."""
    if log:
        axes.set_yscale("log")
        put(axes.yaxis, powers(1, most * 1.3))
        axes.set_ylim(_SMALLEST_ON_LOG, most * 1.3)
        return _SMALLEST_ON_LOG
    values = steps(0, most, whole=True)
    put(axes.yaxis, values)
    axes.set_ylim(values[0], values[-1])
    return 0.0
