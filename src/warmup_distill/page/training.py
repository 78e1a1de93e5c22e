"""The curves of a run's training stages, from the logs that they left."""

import json
import math
from pathlib import Path
from typing import Any

from warmup_distill.page.charts import Chart, Series, line_chart, thin
from warmup_distill.page.table import MODELS

Rows = list[dict[str, Any]]


def training_charts(folder: Path) -> list[Chart | str]:
    """The charts of a run directory, and a sentence in place of those that it has no log for."""
    warmup = _read_log(folder / "warmup")
    charts = _warmup_charts(warmup) or ["The student was not warmed up in this run."]
    return [*charts, *_watch_charts(folder), _distill_chart(folder), *_cut_charts(folder)]


def _read_log(stage: Path) -> Rows:
    path = stage / "trainer_log.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _curve(rows: Rows, key: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have a finite value."""
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return thin([(step, value) for step, value in points if math.isfinite(value)])


def _warmup_charts(rows: Rows) -> list[Chart | str]:
    loss, accuracy = _curve(rows, "loss"), _curve(rows, "accuracy")
    gain = _curve(rows, "reward_margin")
    charts: list[Chart | str] = []
    if loss:
        charts.append(_loss_chart(loss))
    if accuracy:
        charts.append(_accuracy_chart(accuracy))
    if gain:
        charts.append(_gain_chart(gain))
    return charts


def _loss_chart(loss: list[tuple[float, float]]) -> Chart:
    return line_chart(
        [Series(name="loss", points=loss)],
        title="Warm-up: loss",
        summary=f"The loss of the preference optimization goes from {loss[0][1]:.3f} to "
        f"{loss[-1][1]:.3f}; ln 2, where it starts by definition, is marked.",
        x_label="step",
        y_label="DPO loss (nats per pair)",
        y_mark=(math.log(2), "ln 2, no preference yet"),
    )


def _accuracy_chart(accuracy: list[tuple[float, float]]) -> Chart:
    return line_chart(
        [Series(name="accuracy", points=[(step, 100 * value) for step, value in accuracy])],
        title="Warm-up: how often the teacher's side is preferred",
        summary=f"The share of pairs in which the model prefers the chosen side goes from "
        f"{accuracy[0][1]:.0%} to {accuracy[-1][1]:.0%}.",
        x_label="step",
        y_label="pairs (%)",
        y_mark=(50, "chance"),
        y_range=(0, 100),
    )


def _gain_chart(gain: list[tuple[float, float]]) -> Chart:
    return line_chart(
        [Series(name="reward margin", points=gain)],
        title="Warm-up: how clearly it is preferred",
        summary=f"The reward of the chosen side minus that of the rejected side goes from "
        f"{gain[0][1]:.2f} to {gain[-1][1]:.2f}.",
        x_label="step",
        y_label="reward margin (\N{GREEK SMALL LETTER BETA} \N{MULTIPLICATION SIGN} nats)",
    )


def _watch_charts(folder: Path) -> list[Chart | str]:
    """What the warm-up found when it examined itself."""
    path = folder / "warmup" / "watch.json"
    rows: Rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    distance, mismatch = _curve(rows, "watch_kl"), _curve(rows, "watch_mismatch")
    if len(distance) < 2:
        return []
    nearest, at = min((value, step) for step, value in distance)
    return [
        line_chart(
            [Series(name="KL(student \N{DOUBLE VERTICAL LINE} teacher)", points=distance)],
            title="Warm-up: distance from the teacher on held-out prompts",
            summary=f"KL(student \N{DOUBLE VERTICAL LINE} teacher) on the student's own samples "
            f"goes from {distance[0][1]:.2f} to {distance[-1][1]:.2f}, the share of them that "
            f"mismatch from {mismatch[0][1]:.0%} to {mismatch[-1][1]:.0%}. It was "
            f"nearest, {nearest:.2f}, after step {at:.0f}.",
            x_label="step",
            y_label="nats per token",
            y_mark=(distance[0][1], "as it came"),
        )
    ]


def _distill_chart(folder: Path) -> Chart | str:
    series = [
        Series(name=MODELS[stage], points=_curve(_read_log(folder / stage), "loss"))
        for stage in ("distill", "control")
    ]
    series = [one for one in series if one.points]
    if not series:
        return "No student was distilled in this run."
    ends = ", ".join(f"{one.name} ends at {one.points[-1][1]:.3f}" for one in series)
    return line_chart(
        series,
        title="Distillation: loss",
        summary=f"The loss of the distillation; {ends}.",
        x_label="step",
        y_label="loss (nats per token)",
    )


def _cut_charts(folder: Path) -> list[Chart | str]:
    loss = _curve(_read_log(folder / "cut"), "loss")
    if not loss:
        return []
    return [
        line_chart(
            [Series(name="loss", points=loss)],
            title="Healing of the cut student: loss",
            summary=f"The loss goes from {loss[0][1]:.3f} to {loss[-1][1]:.3f}.",
            x_label="step",
            y_label="loss (nats per token)",
        )
    ]
