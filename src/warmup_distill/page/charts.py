"""Charts as geometry: numbers in, positions in SVG units out, which `chart.html.j2` draws.

Positions are those of `axes.py`. No markup is made here, so there is nothing to escape.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warmup_distill.page.axes import BOTTOM, LEFT, RIGHT, Axis, across, upward
from warmup_distill.page.words import decimal

Points = Sequence[tuple[float, float]]

_SMALLEST_ON_LOG = 0.7  # a count of 1 still gets a visible bar
_FEW = 12
"""Up to so many points of a line are drawn as dots besides."""
_BEYOND = 14
"""Width of a bar for what is beyond the scale."""
_APART = 62
"""How far it stands from the scale, itself included; its label needs the room."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    label: str
    strong: bool
    beyond: str | None = None
    """Of what it holds, where that is everything beyond the end of the scale."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve; lines of the same name are one series and share a colour."""

    name: str
    color: int
    path: str
    dashed: bool
    dots: list[tuple[float, float]]
    """Its points, where they are few: a line alone would not show where it was measured."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A marked value: a line across the plot, upright if the value is one of x.

    The label of an upright one stands above the plot. That of another would lie on the curve
    sooner or later, so it goes into the legend.
    """

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

    @property
    def levels(self) -> list[str]:
        """What the lines across the plot mark."""
        return [rule.label for rule in self.rules if not rule.upright]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of values in bins of one width; bin i starts at `start + i * width`.

    What lies beyond the bins is counted apart, so that it cannot be taken for a peak.
    """

    start: float
    width: float
    counts: list[int]
    below: int = 0
    """How many values lie before the first bin."""
    above: int = 0
    """How many lie after the last one."""

    @property
    def end(self) -> float:
        """Upper edge of the last bin."""
        return self.start + len(self.counts) * self.width

    def edges(self, index: int) -> tuple[float, float]:
        low = self.start + index * self.width
        return low, low + self.width


@dataclass(frozen=True, kw_only=True)
class Series:
    name: str
    points: Points
    dashed: bool = False


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
    marked = mark[0] if mark else histogram.end
    x = across(
        x_label,
        min(histogram.start, marked),
        max(histogram.end, marked),
        start=LEFT + (_APART if histogram.below else 0),
        end=RIGHT - (_APART if histogram.above else 0),
        whole=isinstance(histogram.width, int),
    )
    most = max([*histogram.counts, histogram.below, histogram.above])
    y = upward(y_label, _SMALLEST_ON_LOG if log else 0, most, log=log, whole=True)

    def bar(
        start: float, end: float, low: float, high: float, number: int, beyond: str | None = None
    ) -> Bar:
        return Bar(
            x=start,
            y=y.at(number),
            width=max(round(end - start - 1, 1), 0.6),
            height=BOTTOM - y.at(number),
            label=describe(low, high, number),
            strong=mark is not None and low >= mark[0] - 1e-9,
            beyond=beyond,
        )

    bars = []
    for index, number in enumerate(histogram.counts):
        low, high = histogram.edges(index)
        if number:
            bars.append(bar(x.at(low), x.at(high), low, high, number))
    if histogram.below:
        name = f"≤ {decimal(histogram.start, 0)}"
        bars.append(bar(LEFT, LEFT + _BEYOND, -math.inf, histogram.start, histogram.below, name))
    if histogram.above:
        name = f"> {decimal(histogram.end, 0)}"
        bars.append(bar(RIGHT - _BEYOND, RIGHT, histogram.end, math.inf, histogram.above, name))
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
    whole: bool = False,
    note: str | None = None,
) -> Chart:
    """Curves over one pair of axes.

    Args:
        y_range: of the vertical axis; it fits the points if absent.
        whole: whether x counts something.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    low, high = y_range or (min([0.0, *ys]), max([*ys, y_mark[0] if y_mark else 0.0]))
    x = across(x_label, min([0.0, *xs]), max(xs), whole=whole)
    y = upward(y_label, low, high)
    names = list(dict.fromkeys(one.name for one in series))
    lines = [
        Line(
            name=one.name,
            color=names.index(one.name),
            path=_path(one.points, x, y),
            dashed=one.dashed,
            dots=[(x.at(left), y.at(up)) for left, up in one.points if len(one.points) <= _FEW],
        )
        for one in series
    ]
    rules = [Rule(at=x.at(x_mark[0]), label=x_mark[1], upright=True)] if x_mark else []
    rules += [Rule(at=y.at(y_mark[0]), label=y_mark[1], upright=False)] if y_mark else []
    return Chart(
        title=title, summary=summary, x=x, y=y, bars=[], lines=lines, rules=rules, note=note
    )


def _path(points: Points, x: Axis, y: Axis) -> str:
    return "M" + "L".join(f"{x.at(left)} {y.at(up)}" for left, up in points)
