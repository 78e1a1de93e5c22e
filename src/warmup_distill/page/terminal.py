"""The table of a run for a terminal of 80 columns."""

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.table import Table

from warmup_distill.foreign.showing import clean
from warmup_distill.page.contrasts import Contrast
from warmup_distill.page.findings import Finding, findings
from warmup_distill.page.measures import MEASURES, Measure
from warmup_distill.page.table import TableRow, caption, cost_note, explanations, table_rows
from warmup_distill.page.words import decimal, ratio

WIDTH = 80
"""Columns of a terminal that hold every table whole."""
EFFECT = ("effect of the warm-up", "  95% interval, from", "  to")


def render_tables(folder: Path) -> Iterator[Table]:
    """For each benchmark the scores of every model, and what the warm-up changed, with a sentence.

    Margins and KL are in nats per token; changes of shares in points.
    """
    rows = table_rows(folder)
    found = findings(folder, rows)
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        some = [row for row in rows if row.benchmark == benchmark]
        yield _table(benchmark, some, [one for one in found if one.benchmark == benchmark])


def _table(benchmark: str, rows: list[TableRow], found: list[Finding]) -> Table:
    finding = next((one for one in found if one.is_first), None)
    note = cost_note(rows)
    lines = [[row.label, *(_cell(row, measure) for measure in MEASURES)] for row in rows]
    effect = [*_effect(finding)] if finding else []
    headings = ["model", *(measure.heading for measure in MEASURES)]
    if note:
        headings.append("cost")
        lines = [[*line, _cost(row)] for line, row in zip(lines, rows, strict=True)]
        effect = [[*line, ""] for line in effect]
    needed = sum(max(map(len, column)) for column in zip(headings, *lines, *effect, strict=True))
    explained = [f"{label}: {text}." for label, text in explanations(rows)]
    answers = [f"Did the warm-up help? {one.headline}" for one in found[:1]]
    answers += [one.headline for one in found[1:]]
    table = Table(
        title=f"{clean(benchmark)}: {caption(rows)}",
        title_justify="left",
        caption="\n".join(filter(None, [*explained, note, *answers])) or None,
        caption_justify="left",
        caption_style="none",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if needed + 2 * len(headings) - 2 <= WIDTH else 0),
        collapse_padding=True,
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    table.add_section()
    for line in effect:
        table.add_row(*line)
    return table


def _cost(row: TableRow) -> str:
    return "–" if row.cost is None else ratio(row.cost)


def _effect(finding: Finding) -> Iterator[list[str]]:
    """What the warm-up changed, and the ends of each interval."""
    known = {one.measure: [*_ends(one)] for one in finding.contrasts}
    columns = (known.get(measure, ["–"] * 3) for measure in MEASURES)
    for name, *cells in zip(EFFECT, *columns, strict=True):
        yield [name, *cells]


def _ends(contrast: Contrast) -> Iterator[str]:
    show, effect = contrast.measure.show_change, contrast.effect
    yield show(contrast.change)
    yield show(effect.low if effect else None)
    yield show(effect.high if effect else None)


def _cell(row: TableRow, measure: Measure) -> str:
    text, error = measure.show(row.value(measure.key)), row.error(measure.key)
    return text if error is None else f"{text}±{decimal(error)}"
