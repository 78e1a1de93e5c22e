"""A table of results for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from warmup_distill.errors import RunError
from warmup_distill.foreign.reading import reading
from warmup_distill.store.artifacts import read_json


def suite_table(paths: Sequence[Path]) -> Table:
    """One row per result and metric: mean ± standard error over rows, 0 to 100."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for heading in ("model", "suite", "profile", "rows", "metric", "score", "echo", "cut off"):
        right = heading in ("rows", "score", "echo", "cut off")
        overflow: Any = "fold" if heading == "model" else "ellipsis"
        table.add_column(
            heading,
            justify="right" if right else "left",
            no_wrap=heading != "model",
            overflow=overflow,
        )
    for path in paths:
        result = read_json(path)
        with reading(RunError, f"{path} is no result of a suite"):
            for metric, score in result["scores"].items():
                table.add_row(*_cells(path, result, metric, score))
    return table


def _model(path: Path, result: dict[str, Any]) -> str:
    """A model of a run by its place there, any other by the name that was asked for."""
    of_a_run = path.parent.parent.name == "suites"
    return path.parent.name if of_a_run else Path(result["asked"]["model"]).name


def _cells(path: Path, result: dict[str, Any], metric: str, score: dict[str, Any]) -> list[str]:
    echo = result.get("echo_of_the_prompt") if metric == "rouge_l" else None
    return [
        _model(path, result),
        result["suite"],
        result["profile"]["name"],
        str(result["rows"]),
        metric,
        f"{score['mean']:.2f}±{score['standard_error']:.2f}",
        f"{echo['mean']:.2f}" if echo else "",
        f"{result['completions_cut'] / result['completions']:.0%}",
    ]
