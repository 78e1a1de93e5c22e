"""The table of a run for a terminal of 80 columns."""

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.table import Table

from warmup_distill.page.table import Score, TableRow, table_rows
from warmup_distill.page.words import clean

HEADINGS = ("greedy", "sampled", "mismatch", "margin", "KL(t‖m)", "KL(m‖t)")


def render_tables(folder: Path) -> Iterator[Table]:
    """For each benchmark the scores of every model; margins and KL in nats per token."""
    rows = table_rows(folder)
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        yield _table(benchmark, [row for row in rows if row.benchmark == benchmark])


def _table(benchmark: str, rows: list[TableRow]) -> Table:
    title = f"{clean(benchmark)}: {rows[0].metric}, {rows[0].prompts} prompts"
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("model", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        share = "–" if row.mismatch_share is None else f"{row.mismatch_share:.1%}"
        distances = (row.mean_margin, row.forward_kl, row.reverse_kl)
        table.add_row(
            row.label, _score(row.greedy), _score(row.sampled), share, *map(_number, distances)
        )
    return table


def _score(score: Score | None) -> str:
    return "–" if score is None else f"{score.mean:.1f}±{score.standard_error:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
