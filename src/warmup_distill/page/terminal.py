"""The table of a run for a terminal."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from warmup_distill.page.table import Score, table_rows


def render_table(folder: Path) -> Table:
    """The scores of every model of a run; margins and KL in nats per token."""
    table = Table(title="How each model of the run does", title_justify="left")
    table.add_column("benchmark")
    table.add_column("model")
    for heading in ("greedy", "sampled, T = 1", "mismatches", "margin", "KL(t‖m)", "KL(m‖t)"):
        table.add_column(heading, justify="right")
    for row in table_rows(folder):
        table.add_row(
            escape(row.benchmark),
            row.label,
            _score(row.greedy),
            _score(row.sampled),
            "–" if row.mismatch_share is None else f"{row.mismatch_share:.1%}",
            *(_number(value) for value in (row.mean_margin, row.forward_kl, row.reverse_kl)),
        )
    return table


def _score(score: Score | None) -> str:
    return "–" if score is None else f"{score.mean:.1f} ± {score.standard_error:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
