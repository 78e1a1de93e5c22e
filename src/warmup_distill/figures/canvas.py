"""What all figures look like, and matplotlib made ready, which is slow to import and so waits.

Sizes are in points, which are the units of the SVG as well.
"""

import atexit
import contextlib
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmup_distill.foreign.showing import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 520, 290
LEFT, RIGHT, TOP, BOTTOM = 76, 500, 20, 228
"""Of the plot, from the left and the top of a figure without a legend."""
LINE = 19
"""Height of a line of the legend, which stands above the plot."""
SIZE = 13
"""Of all text."""

INK, QUIET, GRID, PAPER = "#20242a", "#5d646d", "#e2dfd7", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe and Ito 2008, *Color Universal Design*: told apart by colour-blind readers."""
BAR, STRONG = SERIES[4], SERIES[1]
"""Bars of a histogram, and those beyond a mark."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""As many as colours, so that nothing hangs on colour alone."""

_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,  # journals take no Type 3 fonts
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that all machines agree
    "font.size": SIZE,
    "text.parse_math": False,  # a dollar is a dollar
    "axes.edgecolor": QUIET,
    "axes.linewidth": 1.0,
    "axes.spines.left": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.major.size": 0,
    "xtick.major.pad": 9,
    "ytick.major.size": 0,
    "ytick.major.pad": 8,
    "lines.linewidth": 2.0,
    "lines.solid_joinstyle": "round",
    "lines.markersize": 6.5,
    "lines.markeredgewidth": 0.0,
    "legend.frameon": False,
    "legend.borderpad": 0.0,
    "legend.labelcolor": QUIET,
}


@contextlib.contextmanager
def styled(name: str) -> Iterator[None]:
    """Our style alone, while a figure of this name is drawn or written; its ids follow from it."""
    matplotlib = _load()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the style of this user is for figures of this user's own
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        yield


@functools.cache
def _load() -> Any:
    """matplotlib, with a folder for its list of fonts where there is no home that it can write to.

    It would find one by itself, and warn.
    """
    given = "matplotlib" in sys.modules or os.environ.get("MPLCONFIGDIR")
    if not given and not _has_home():
        folder = tempfile.mkdtemp(prefix="warmup-distill-matplotlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["MPLCONFIGDIR"] = folder
    import matplotlib

    return matplotlib


def _has_home() -> bool:
    """Whether matplotlib can write where it does by default."""
    try:
        if sys.platform.startswith(("linux", "freebsd")):
            homes = [
                Path(os.environ.get(f"XDG_{what}_HOME") or Path.home() / folder) / "matplotlib"
                for what, folder in (("CONFIG", ".config"), ("CACHE", ".cache"))
            ]
        else:
            homes = [Path.home() / ".matplotlib"]
        for home in homes:
            home.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # not to be made, or nobody's home
        return False
    return all(os.access(home, os.W_OK) for home in homes)


def blank(x_label: str, y_label: str, *, legend: int = 0) -> "tuple[Figure, Axes]":
    """A figure with labelled axes and nothing on them, inside of `styled`.

    Args:
        legend: how many lines the legend has.
    """
    from matplotlib.figure import Figure

    height = HEIGHT + LINE * legend
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor=PAPER)
    bottom, plot = HEIGHT - BOTTOM, BOTTOM - TOP
    axes = figure.add_axes(
        (LEFT / WIDTH, bottom / height, (RIGHT - LEFT) / WIDTH, plot / height), facecolor="none"
    )
    middle = (LEFT + RIGHT) / 2 / WIDTH
    figure.text(middle, 16 / height, text(x_label), color=QUIET, ha="center")
    figure.text(
        15 / WIDTH, (bottom + plot / 2) / height, text(y_label),
        color=QUIET, ha="center", rotation=90, rotation_mode="anchor",
    )  # fmt: skip
    return figure, axes


def text(words: str) -> str:
    """Words that can be drawn: what the font lacks is replaced, what steers a reader is gone."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(
        one if ord(one) in known else "\N{REPLACEMENT CHARACTER}" for one in clean(words)
    )
