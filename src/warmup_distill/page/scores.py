"""Scores against the distance from the teacher, with intervals: a figure for each benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from warmup_distill.figures.chart import Caption, Chart
from warmup_distill.figures.curves import intervals
from warmup_distill.figures.data import Measurement
from warmup_distill.page.contrasts import Sums, read_sums
from warmup_distill.page.table import TableRow, metric_words
from warmup_distill.page.words import decimal, enumeration
from warmup_distill.scoring.intervals import interval


def score_charts(folder: Path, rows: Sequence[TableRow]) -> dict[str, Chart]:
    """By benchmark, where two models or more have samples with a score and a distance."""
    sums = {model: read_sums(folder, model) for model in dict.fromkeys(row.model for row in rows)}
    charts = {}
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        some = [row for row in rows if row.benchmark == benchmark]
        points = {row.label: _point(row, sums[row.model].get(benchmark, {})) for row in some}
        known = {label: point for label, point in points.items() if point}
        if len(known) > 1:
            charts[benchmark] = _chart(some[0], known)
    return charts


def _point(row: TableRow, sums: Sums) -> Measurement | None:
    score = interval([sums.get("sampled", {})], largest=100)
    if score is None or row.reverse_kl is None:
        return None
    return Measurement(x=row.reverse_kl, y=score.mean, low=score.low, high=score.high)


def _chart(row: TableRow, points: Mapping[str, Measurement]) -> Chart:
    said = enumeration([
        f"{label} {decimal(one.y)} at {decimal(one.x, 3)} nats" for label, one in points.items()
    ])  # fmt: skip
    caption = Caption(
        name=f"score-{row.benchmark}",
        title=f"Score and distance from the teacher on {row.benchmark}",
        summary=f"The sampled score over KL(model \N{DOUBLE VERTICAL LINE} teacher): {said}.",
        note="95% interval of each model by itself. All answered the same prompts, so the "
        "difference of two is known better than these bars suggest.",
    )
    return intervals(
        {label: [point] for label, point in points.items()},
        caption,
        x_label="KL(model \N{DOUBLE VERTICAL LINE} teacher) (nats per token)",
        y_label=f"sampled, {metric_words(row)}",
    )
