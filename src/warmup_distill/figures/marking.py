"""What stands on a figure besides its numbers: marked values, and the legend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from warmup_distill.figures.canvas import INK, LEFT, LINE, SIZE, WIDTH, text
from warmup_distill.figures.data import Mark

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_LINE: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (2, 3))}


def upright(axes: "Axes", mark: Mark) -> None:
    """A line at a value of x; its name stands above the plot, where nothing is drawn."""
    value, name = mark
    axes.axvline(value, ymax=1.06, clip_on=False, **_LINE)
    low, high = axes.get_xlim()
    on_the_left = value > low + 0.6 * (high - low)
    axes.annotate(
        text(name), (value, 1), (-7 if on_the_left else 7, 6), color=INK,
        xycoords=axes.get_xaxis_transform(), textcoords="offset points", annotation_clip=False,
        ha="right" if on_the_left else "left",
    )  # fmt: skip


def level(axes: "Axes", mark: Mark) -> "Line2D":
    """A line at a value of y; its name would lie on a curve, so it goes into the legend."""
    return axes.axhline(mark[0], label=text(mark[1]), **_LINE)


def legend(figure: "Figure", handles: "Sequence[Artist]") -> None:
    """One line for each, above the plot; `blank` left room for so many."""
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(LEFT / WIDTH, 1),
        borderaxespad=0, handlelength=1.5, handletextpad=0.6, labelspacing=(LINE - SIZE) / SIZE,
    )  # fmt: skip
