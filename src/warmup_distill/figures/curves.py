"""Lines, and points with intervals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from warmup_distill.figures.canvas import MARKERS, SERIES, blank, styled, text
from warmup_distill.figures.chart import Caption, Chart
from warmup_distill.figures.data import Mark, Measurement, Series
from warmup_distill.figures.marking import legend, level, upright
from warmup_distill.figures.ticks import label, powers, put, steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW = 12
"""Up to so many points of a line are drawn as dots besides: it would not show where they are."""
_BESIDE = 0.05
"""Room between the outermost points and the ends of an axis, of its length."""


def lines(
    series: Sequence[Series],
    caption: Caption,
    *,
    x_label: str,
    y_label: str,
    x_mark: Mark | None = None,
    y_mark: Mark | None = None,
    y_range: tuple[float, float] | None = None,
    whole: bool = False,
) -> Chart:
    """Curves over one pair of axes.

    Args:
        y_range: of the vertical axis; it fits the points and zero if absent.
        whole: whether x counts something.
    """
    names = list(dict.fromkeys(one.name for one in series))
    xs, ys = ([point[i] for one in series for point in one.points] for i in range(2))
    marked = [y_mark[0]] if y_mark else []
    shown = names if len(names) > 1 else []
    with styled(caption.name):
        figure, axes = blank(x_label, y_label, legend=len(shown) + len(marked))
        handles = {one.name: _line(axes, one, names.index(one.name)) for one in reversed(series)}
        _fit_x(axes, min([0.0, *xs]), max(xs), whole=whole)
        _fit_y(axes, y_range or [0.0, *ys, *marked])
        if x_mark:
            upright(axes, x_mark)
        levels = [level(axes, y_mark)] if y_mark else []
        legend(figure, [*(handles[name] for name in shown), *levels])
    rows = [(one.name, *point) for one in series for point in one.points]
    return Chart(
        caption=caption, drawn=figure, told={}, columns=("series", x_label, y_label), rows=rows
    )  # fmt: skip


def intervals(
    series: Mapping[str, Sequence[Measurement]],
    caption: Caption,
    *,
    x_label: str,
    y_label: str,
    y_mark: Mark | None = None,
    log_x: bool = False,
) -> Chart:
    """Points with error bars, joined where a series has several, as in score against compute.

    Args:
        series: by name.
        log_x: x on a logarithmic scale; all are positive then.
    """
    points = [(name, one) for name, some in series.items() for one in some]
    told: dict[str, str] = {}
    with styled(caption.name):
        shown = len(series) if len(series) > 1 or y_mark else 0
        figure, axes = blank(x_label, y_label, legend=shown + bool(y_mark))
        handles = []
        for number, (name, some) in enumerate(series.items()):
            handles.append(_joined(axes, name, some, _looks(number)))
            for one in some:
                gid = f"told-{len(told)}"
                told[gid] = f"{name}: {label(one.y)} ({label(one.low)} to {label(one.high)})"
                _point(axes, one, _looks(number), gid)
        (_fit_log_x if log_x else _fit_around)(axes, [one.x for _, one in points])
        ends = [end for _, one in points for end in (one.low, one.high)]
        _fit_y(axes, [*ends, *([y_mark[0]] if y_mark else [])])
        legend(figure, [*handles[:shown], *([level(axes, y_mark)] if y_mark else [])])
    return Chart(
        caption=caption,
        drawn=figure,
        told=told,
        columns=("series", x_label, y_label, "low", "high"),
        rows=[(name, one.x, one.y, one.low, one.high) for name, one in points],
    )


def _line(axes: "Axes", one: Series, number: int) -> Any:
    (drawn,) = axes.plot(
        [x for x, _ in one.points], [y for _, y in one.points], label=text(one.name),
        color=SERIES[number % len(SERIES)], linestyle="--" if one.dashed else "-",
        marker="o" if len(one.points) <= _FEW else "", clip_on=False,
    )  # fmt: skip
    return drawn


def _looks(number: int) -> dict[str, Any]:
    """Colour and shape of a series; the second dozen has other pairs of them."""
    shape = (number + number // len(SERIES)) % len(MARKERS)
    return {"color": SERIES[number % len(SERIES)], "marker": MARKERS[shape]}


def _joined(axes: "Axes", name: str, some: Sequence[Measurement], looks: dict[str, Any]) -> Any:
    (drawn,) = axes.plot(
        [one.x for one in some], [one.y for one in some], label=text(name), clip_on=False,
        linestyle="-" if len(some) > 1 else "", **looks,
    )  # fmt: skip
    return drawn


def _point(axes: "Axes", one: Measurement, looks: dict[str, Any], gid: str) -> None:
    axes.vlines(one.x, one.low, one.high, colors=looks["color"], linewidth=1.5, clip_on=False)
    axes.plot([one.x], [one.y], linestyle="", gid=gid, clip_on=False, **looks)


def _fit_x(axes: "Axes", low: float, high: float, *, whole: bool = False) -> None:
    high = high if high > low else low + 1
    put(axes.xaxis, [at for at in steps(low, high, whole=whole) if low <= at <= high])
    axes.set_xlim(low, high)


def _fit_around(axes: "Axes", xs: Sequence[float]) -> None:
    beside = _BESIDE * (max(xs) - min(xs)) or _BESIDE * abs(xs[0]) or 1.0
    _fit_x(axes, min(xs) - beside, max(xs) + beside)


def _fit_log_x(axes: "Axes", xs: Sequence[float]) -> None:
    beside = (max(xs) / min(xs)) ** _BESIDE if max(xs) > min(xs) else 2.0
    low, high = min(xs) / beside, max(xs) * beside
    axes.set_xscale("log")
    put(axes.xaxis, powers(low, high))
    axes.set_xlim(low, high)


def _fit_y(axes: "Axes", values: Sequence[float]) -> None:
    """From a round value below all of them to one above."""
    ticks = steps(min(values), max(values))
    put(axes.yaxis, ticks)
    axes.set_ylim(ticks[0], ticks[-1])
