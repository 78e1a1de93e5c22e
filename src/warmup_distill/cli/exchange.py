"""The commands that read and write files of other programs: `score` and `export`."""

from pathlib import Path
from typing import Annotated

import typer

from warmup_distill.cli.options import ExportTarget, MetricName
from warmup_distill.cli.screen import say, say_json


def score_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Rows with `prediction` and `reference`, `references` or `answer`.",
        ),
    ],
    metric: Annotated[MetricName, typer.Option(help="How to score.")],
) -> None:
    """Score another program's predictions: a JSON line per row, then the mean, 0 to 100."""
    from dataclasses import asdict

    from warmup_distill.scoring.files import score_file
    from warmup_distill.scoring.statistics import estimate

    rows = list(score_file(file, metric.value))
    for row in rows:
        line = asdict(row)
        if row.extracted is None:
            del line["extracted"]
        say_json(line)
    summary = asdict(estimate([row.value for row in rows]))
    say_json({"metric": metric.value, "rows": len(rows)} | summary)


def export_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    to: Annotated[ExportTarget, typer.Option(help="The program that shall read the pairs.")],
) -> None:
    """Write the pairs of a run in another program's format."""
    from warmup_distill.exporting import export_pairs

    path, written, left_out = export_pairs(folder, to.value)
    say(f"{written} pairs written to {path}")
    if left_out:
        say(
            f"{left_out} pairs left out: a side was cut off, and {to.value} would teach the "
            "student to stop there; or a control token stands in the text, which it would not "
            "read as text."
        )
