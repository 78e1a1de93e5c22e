"""Charts as geometry: numbers in, positions in SVG units out, which `chart.html.j2` draws.

Positions are those of a viewBox of WIDTH by HEIGHT with y downward; the plot's corners are
(LEFT, TOP) and (RIGHT, BOTTOM). No markup is made here, so there is nothing to escape.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warmup_distill.page.words import decimal

WIDTH, HEIGHT = 520, 290
LEFT, RIGHT, TOP, BOTTOM = 70, 500, 20, 228

Points = Sequence[tuple[float, float]]

_SMALLEST_ON_LOG = 0.7  # a count of 1 still gets a visible bar


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
        step = nice_step((self.high - self.low) / 5)
        digits = max(0, -math.floor(math.log10(step)))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [index * step for index in range(first, last + 1)]
        return [(self.at(value), _label(value, digits)) for value in values]


@dataclass(frozen=True, kw_only=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    label: str
    strong: bool


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve; lines of the same name are one series and share a colour."""

    name: str
    color: int
    path: str
    dashed: bool


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A marked value: a line across the plot, upright if the value is one of x."""

    at: float
    label: str
    upright: bool


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Everything that the template needs to draw a chart."""

    title: str
    summary: str
    """What the chart shows, for those who do not see it."""
    x: Axis
    y: Axis
    bars: list[Bar]
    lines: list[Line]
    rules: list[Rule]
    note: str | None = None

    @property
    def legend(self) -> list[tuple[int, str]]:
        """Colour and name of each series, where there are several."""
        names = dict.fromkeys((line.color, line.name) for line in self.lines)
        return list(names) if len(names) > 1 else []


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of values in bins of one width; bin i starts at `start + i * width`."""

    start: float
    width: float
    counts: list[int]

    def edges(self, index: int) -> tuple[float, float]:
        low = self.start + index * self.width
        return low, low + self.width


@dataclass(frozen=True, kw_only=True)
class Series:
    name: str
    points: Points
    dashed: bool = False


def nice_step(rough: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `rough`.

    Example:
        >>> nice_step(0.3), nice_step(7)
        (0.5, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


def thin(points: Points, limit: int = 200) -> list[tuple[float, float]]:
    """At most `limit` points: the means of equal runs of neighbours."""
    size = math.ceil(len(points) / limit) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def bar_chart(
    histogram: Histogram,
    *,
    title: str,
    summary: str,
    x_label: str,
    y_label: str,
    describe: Callable[[float, float, int], str],
    mark: tuple[float, str] | None = None,
    log: bool = False,
    note: str | None = None,
) -> Chart:
    """A histogram.

    Args:
        describe: words for a bar, from its low edge, its high edge and its count.
        mark: a value of x and its label; bars to the right of it are drawn in a stronger colour.
        log: counts on a logarithmic scale.
    """
    last = histogram.edges(len(histogram.counts))[0]
    x = _across(x_label, histogram.start, max(last, mark[0] if mark else last))
    y = _upward(y_label, _SMALLEST_ON_LOG if log else 0, max(histogram.counts), log=log)
    bars = []
    for index, count in enumerate(histogram.counts):
        low, high = histogram.edges(index)
        if count:
            bars.append(
                Bar(
                    x=x.at(low),
                    y=y.at(count),
                    width=max(x.at(high) - x.at(low) - 1, 0.6),
                    height=BOTTOM - y.at(count),
                    label=describe(low, high, count),
                    strong=mark is not None and low >= mark[0] - 1e-9,
                )
            )
    rules = [Rule(at=x.at(mark[0]), label=mark[1], upright=True)] if mark else []
    return Chart(
        title=title, summary=summary, x=x, y=y, bars=bars, lines=[], rules=rules, note=note
    )


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    summary: str,
    x_label: str,
    y_label: str,
    x_mark: tuple[float, str] | None = None,
    y_mark: tuple[float, str] | None = None,
    y_range: tuple[float, float] | None = None,
    note: str | None = None,
) -> Chart:
    """Curves over one pair of axes; `y_range` fixes the vertical one, else it fits the points."""
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    low, high = y_range or (min([0.0, *ys]), max([*ys, y_mark[0] if y_mark else 0.0]))
    x, y = _across(x_label, min([0.0, *xs]), max(xs)), _upward(y_label, low, high)
    names = list(dict.fromkeys(one.name for one in series))
    lines = [
        Line(
            name=one.name,
            color=names.index(one.name),
            path=_path(one.points, x, y),
            dashed=one.dashed,
        )
        for one in series
    ]
    rules = [Rule(at=x.at(x_mark[0]), label=x_mark[1], upright=True)] if x_mark else []
    rules += [Rule(at=y.at(y_mark[0]), label=y_mark[1], upright=False)] if y_mark else []
    return Chart(
        title=title, summary=summary, x=x, y=y, bars=[], lines=lines, rules=rules, note=note
    )


def _label(value: float, digits: int) -> str:
    """Of a tick; thousands are shortened where they would be too wide for the margin."""
    return f"{value / 1000:,g}k" if abs(value) >= 10_000 else decimal(value, digits)


def _path(points: Points, x: Axis, y: Axis) -> str:
    return "M" + "L".join(f"{x.at(left)} {y.at(up)}" for left, up in points)


def _across(label: str, low: float, high: float) -> Axis:
    return Axis(label=label, low=low, high=high if high > low else low + 1, start=LEFT, end=RIGHT)


def _upward(label: str, low: float, high: float, *, log: bool = False) -> Axis:
    """A vertical axis that ends on a tick, or a little above the highest bar if logarithmic."""
    high = high if high > low else low + 1
    if log:
        return Axis(label=label, low=low, high=high * 1.3, start=BOTTOM, end=TOP, log=True)
    step = nice_step((high - low) / 5)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Axis(label=label, low=low, high=high, start=BOTTOM, end=TOP)
