"""Figures: what is drawn is what was given, and nothing else gets onto a page."""

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from warmup_distill.figures import ticks
from warmup_distill.figures.canvas import BAR, BOTTOM, HEIGHT, SERIES, STRONG
from warmup_distill.figures.chart import Caption, Chart
from warmup_distill.figures.curves import intervals, lines
from warmup_distill.figures.data import Histogram, Measurement, Series, thin
from warmup_distill.figures.histograms import bars

CAPTION = Caption(name="it", title="A title", summary="What it shows")
HOSTILE = '</text><script>alert(1)</script>"><img src=x> $\\frac{a}{b}$ \u202e\x1b[31m 中\ud800'


def histogram(counts: list[int], *, below: int = 0, above: int = 0, **options: Any) -> Chart:
    data = Histogram(start=0, width=1, counts=counts, below=below, above=above)
    return bars(
        data, CAPTION, x_label="x", y_label="y",
        describe=lambda low, high, count: f"{low:g} {high:g} {count}", **options,
    )  # fmt: skip


def line(*series: Series, **options: Any) -> Chart:
    return lines(series, CAPTION, x_label="step", y_label="loss", **options)


def compared(names: list[str], **options: Any) -> Chart:
    series = {
        name: [Measurement(x=10.0 ** (12 + step), y=20 + i + step, low=19, high=30 + i)
               for step in range(3)]
        for i, name in enumerate(names)
    }  # fmt: skip
    return intervals(series, CAPTION, x_label="operations", y_label="score", **options)


def examples() -> dict[str, Chart]:
    return {
        "bars": histogram([1, 0, 9], below=3, above=2, mark=(2.0, HOSTILE), log=True),
        "lines": line(
            Series(name=HOSTILE, points=[(0, 1), (5, 2)]),
            Series(name="b", points=[(0, 2), (5, 1)], dashed=True),
            x_mark=(3, "here"), y_mark=(1.5, HOSTILE),
        ),
        "intervals": compared([HOSTILE, "b"], log_x=True),
    }  # fmt: skip


def drawn_bars(chart: Chart) -> list[Any]:
    return list(chart.drawn.axes[0].patches)


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_steps_are_round_in_order_and_hold_the_whole_range(low: float, span: float) -> None:
    found = ticks.steps(low, low + span)
    assert found == sorted(found) and 2 <= len(found) <= 8
    assert found[0] <= low + 1e-6 * span and found[-1] >= low + span * (1 - 1e-6)
    assert float(f"{found[1] - found[0]:.1e}"[:3]) in (1, 2, 5)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_steps_of_counts_are_whole_and_their_labels_differ(low: int, span: int) -> None:
    found = ticks.steps(low, low + span, whole=True)
    assert all(value == int(value) for value in found)
    assert len({ticks.label(value) for value in found}) == len(found)


@given(st.floats(1e-3, 1e15), st.floats(1.5, 1e6))
def test_powers_lie_inside_and_are_two_at_least_where_there_is_room(
    low: float, times: float
) -> None:
    found = ticks.powers(low, low * times)
    assert all(low <= value <= low * times for value in found)
    assert len(found) >= (2 if times >= 10 else 0)


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(-5, 5)), min_size=1, max_size=50))
def test_thin_keeps_few_points_and_the_mean(points: list[tuple[float, float]]) -> None:
    few = thin(points, limit=7)
    assert len(few) <= 7
    assert min(y for _, y in points) - 1e-9 <= min(y for _, y in few)
    assert thin(points, limit=50) == points


def test_bars_are_as_high_as_their_counts_and_stronger_beyond_the_mark() -> None:
    chart = histogram([3, 0, 8], mark=(2.0, "two"))
    assert [(bar.get_x(), bar.get_y(), bar.get_height()) for bar in drawn_bars(chart)] == [
        (0, 0, 3), (2, 0, 8),
    ]  # fmt: skip
    assert [to_hex(bar.get_facecolor()) for bar in drawn_bars(chart)] == [BAR, STRONG]
    assert chart.told == {"told-0": "0 1 3", "told-1": "2 3 8"}


def test_a_single_count_shows_on_a_logarithmic_scale() -> None:
    chart = histogram([1, 0, 1000], log=True)
    axes = chart.drawn.axes[0]
    first, _ = (bar.get_window_extent() for bar in drawn_bars(chart))
    assert first.y0 == pytest.approx(HEIGHT - BOTTOM) and first.height > 5
    assert labels(axes.yaxis) == ["1", "10", "100", "1,000"]


@pytest.mark.parametrize("counts", [[4, 5], []])
def test_what_is_beyond_the_scale_stands_apart_and_says_so(counts: list[int]) -> None:
    chart = histogram(counts, below=3, above=6, mark=(1.0, "one"))
    below, *inside, above = (bar.get_window_extent() for bar in drawn_bars(chart))
    scale = chart.drawn.axes[0].transData
    start, end = (scale.transform((x, 0))[0] for x in (0, max(len(counts), 1)))
    assert below.x1 < start - 40 and above.x0 > end + 40
    assert all(start - 0.1 <= bar.x0 and bar.x1 <= end + 0.1 for bar in inside)
    assert labels(chart.drawn.axes[0].xaxis)[-2:] == ["≤ 0", f"> {len(counts)}"]
    colors = [to_hex(bar.get_facecolor()) for bar in drawn_bars(chart)]
    assert (colors[0], colors[-1]) == (BAR, STRONG if counts else BAR)


@pytest.mark.parametrize(("points", "level"), [(1, 0.01), (2, 5.0), (12, 1.0), (13, 0.3)])
def test_few_points_are_dots_and_names_stand_above_the_plot(points: int, level: float) -> None:
    """No name can lie on a curve."""
    chart = line(
        Series(name="loss", points=[(step + 1, level) for step in range(points)]),
        x_mark=(1, "start"), y_mark=(level, "level"), whole=True,
    )  # fmt: skip
    chart.drawn.draw_without_rendering()
    axes, (legend,) = chart.drawn.axes[0], chart.drawn.legends
    assert [words.get_text() for words in legend.get_texts()] == ["level"]
    top = axes.get_window_extent().y1
    names = [*legend.get_texts(), *(one for one in axes.texts if one.get_text())]
    assert len(names) == 2 and all(one.get_window_extent().y0 >= top for one in names)
    marks = labels(axes.xaxis)
    assert len(set(marks)) == len(marks) and not any("." in mark for mark in marks)
    assert axes.lines[0].get_marker() == ("o" if points <= 12 else "")


def test_series_of_one_name_share_a_colour_and_a_line_of_the_legend() -> None:
    parts = [Series(name="a", points=[(0, 1)]), Series(name="b", points=[(0, 2)]),
             Series(name="a", points=[(1, 1)], dashed=True)]  # fmt: skip
    chart = line(*parts)
    colors = [drawn.get_color() for drawn in chart.drawn.axes[0].lines]
    assert sorted(colors) == sorted([SERIES[0], SERIES[1], SERIES[0]])
    (legend,) = chart.drawn.legends
    assert [words.get_text() for words in legend.get_texts()] == ["a", "b"]


def test_points_stand_in_their_intervals_and_say_their_numbers() -> None:
    chart = compared(["one", "two"], log_x=True)
    axes = chart.drawn.axes[0]
    assert labels(axes.xaxis) == ["10¹²", "10¹³", "10¹⁴"]
    assert chart.told["told-0"] == "one: 20 (19 to 30)"
    segments = [part for collection in axes.collections for part in collection.get_segments()]
    assert {(x, low, high) for (x, low), (_, high) in segments} == {
        (10.0**power, 19.0, 30.0 + i) for power in (12, 13, 14) for i in (0, 1)
    }
    low, high = axes.get_ylim()
    assert low <= 19 and high >= 31


def test_a_dozen_series_can_be_told_apart_without_colour_alone() -> None:
    chart = compared([f"series {number}" for number in range(12)])
    (legend,) = chart.drawn.legends
    looks = [(line.get_color(), line.get_marker()) for line in legend.get_lines()]
    assert len(set(looks)) == 12
    assert {color for color, _ in looks} == set(SERIES)


def test_one_point_has_a_scale() -> None:
    for log_x in (False, True):
        one = {"a": [Measurement(x=3.0, y=2.0, low=2.0, high=2.0)]}
        chart = intervals(one, CAPTION, x_label="x", y_label="y", log_x=log_x)
        low, high = chart.drawn.axes[0].get_xlim()
        assert low < 3 < high


@pytest.mark.parametrize("kind", ["bars", "lines", "intervals"])
def test_markup_holds_no_style_no_script_and_nothing_that_a_name_says(kind: str) -> None:
    chart = examples()[kind]
    (_, drawing), _, _ = chart.files()
    for text in (chart.for_page, drawing.decode()):
        elements = list(ElementTree.fromstring(text).iter())
        tags = {element.tag.rpartition("}")[2] for element in elements}
        assert tags <= {
            "svg", "g", "path", "text", "title", "desc", "use", "defs", "clipPath", "rect",
        }  # fmt: skip
        names = {name for element in elements for name in element.attrib}
        assert "style" not in names and not any(name.startswith("on") for name in names)
        links = {v for e in elements for n, v in e.attrib.items() if n.endswith("href")}
        ids = [element.get("id") for element in elements if element.get("id")]
        assert links <= {f"#{one}" for one in ids} and len(set(ids)) == len(ids)
        assert "\u202e" not in text and "\x1b" not in text
        said = "".join(element.text or "" for element in elements)
        assert "<script>alert(1)</script>" in said and "$\\frac{a}{b}$" in said


def test_a_page_takes_its_colours_and_its_font_from_its_style_sheet() -> None:
    for chart in examples().values():
        assert not re.search("#[0-9a-f]{6}|font", chart.for_page)
        root = ElementTree.fromstring(chart.for_page)
        assert root.get("role") == "img" and root.get("aria-label") == "A title. What it shows"
        assert "var(--series-0)" in chart.for_page or "var(--series-4)" in chart.for_page


def test_bars_tell_what_they_are_at_the_pointer() -> None:
    told = re.findall('<g class="told"><title>([^<]*)</title><path', examples()["bars"].for_page)
    assert told == ["-inf 0 3", "0 1 1", "2 3 9", "3 inf 2"]


def test_a_file_says_what_it_shows_and_has_text_that_can_be_selected() -> None:
    (name, drawing), (paper, _), _ = line(Series(name="a", points=[(0, 1), (1, 2)])).files()
    assert (name, paper) == ("it.svg", "it.pdf")
    root = ElementTree.fromstring(drawing)
    space = "{http://www.w3.org/2000/svg}"
    assert [root.findtext(space + tag) for tag in ("title", "desc")] == ["A title", CAPTION.summary]
    assert {"step", "loss"} <= {text.text for text in root.iter(space + "text")}


def test_a_figure_has_its_numbers_beside_it() -> None:
    *_, (name, content) = compared(["a, b"]).files()
    assert name == "it.csv"
    heading, *rows = csv.reader(io.StringIO(content.decode()))
    assert heading == ["series", "operations", "score", "low", "high"]
    assert [(row[0], *map(float, row[1:])) for row in rows] == [
        ("a, b", 1e12, 20, 19, 30), ("a, b", 1e13, 21, 19, 30), ("a, b", 1e14, 22, 19, 30),
    ]  # fmt: skip


def test_papers_get_fonts_that_journals_take() -> None:
    _, (_, paper), _ = line(Series(name="a", points=[(0, 1), (1, 2)])).files()
    assert paper.startswith(b"%PDF") and b"/FontFile2" in paper and b"/Type3" not in paper


def test_figures_are_the_same_each_time_and_whatever_this_user_s_style_is() -> None:
    first = {kind: [*examples()[kind].files()] for kind in ("bars", "lines")}
    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "red", "svg.fonttype": "path"}):
        again = {kind: [*examples()[kind].files()] for kind in ("bars", "lines")}
        assert matplotlib.rcParams["font.size"] == 40
    assert first == again
    assert b"CreationDate" not in first["lines"][1][1]


def program(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_nothing_waits_for_matplotlib_that_draws_nothing() -> None:
    code = (
        "import sys, warmup_distill.cli.main, warmup_distill.stages.report\n"
        "print('matplotlib' in sys.modules)"
    )
    assert program(code).stdout == "False\n"


def test_without_a_home_a_figure_is_drawn_without_a_word_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    code = (
        "import sys\n"
        "from warmup_distill.figures.chart import Caption\n"
        "from warmup_distill.figures.curves import lines\n"
        "from warmup_distill.figures.data import Series\n"
        "caption = Caption(name='n', title='t', summary='s')\n"
        "series = [Series(name='a', points=[(0, 1), (1, 2)])]\n"
        "chart = lines(series, caption, x_label='x', y_label='y')\n"
        "print(len([*chart.files()]), 'matplotlib.pyplot' in sys.modules)"
    )
    nowhere = str(tmp_path / "file" / "home")
    gone = {"XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "MPLCONFIGDIR": ""}
    done = program(code, HOME=nowhere, TMPDIR=str(tmp_path / "temporary"), **gone)
    assert (done.stdout, done.stderr) == ("3 False\n", "")
    assert not list((tmp_path / "temporary").iterdir())
