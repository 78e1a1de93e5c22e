"""The curves of a run's trainings, from the logs that they left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.figures.chart import Caption, Chart
from warmup_distill.figures.curves import lines
from warmup_distill.figures.data import Mark, Series, thin
from warmup_distill.page.table import MODELS
from warmup_distill.page.words import count, decimal, percent
from warmup_distill.store.artifacts import read_log

Rows = list[dict[str, Any]]
Curve = list[tuple[float, float]]
"""Step and value."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a run: its curves, and where they ended."""

    title: str
    charts: list[Chart]
    figures: list[tuple[str, str]]
    """Numbers, and what each of them is."""
    instead: str = ""
    """What to say where there is no curve."""

    @property
    def beside(self) -> list[tuple[str, str]]:
        """The figures, where an odd number of charts leaves a place in a grid of two columns."""
        return self.figures if len(self.charts) % 2 else []


def trainings(folder: Path) -> list[Training]:
    """The trainings of a run directory, in the order of its stages."""
    cut = _cut(folder)
    return [*([cut] if cut.charts else []), _warmup(folder), _distillation(folder)]


def _read_log(stage: Path) -> Rows:
    return read_log(stage / "trainer_log.jsonl")


def _curve(rows: Rows, key: str) -> Curve:
    """The rows that have a finite value."""
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return thin([(step, value) for step, value in points if math.isfinite(value)])


def _warmup(folder: Path) -> Training:
    rows = _read_log(folder / "warmup")
    loss, accuracy = _curve(rows, "loss"), _curve(rows, "accuracy")
    gain, watched = _curve(rows, "reward_margin"), _watched(folder)
    charts, figures = [], []
    if loss:
        charts.append(_loss_chart(loss))
        figures.append((decimal(loss[-1][1], 3), "is the loss at the end, in nats per pair"))
    if accuracy:
        charts.append(_accuracy_chart(accuracy))
        figures.append((percent(accuracy[-1][1]), "of the pairs prefer the teacher's side then"))
    if gain:
        charts.append(_gain_chart(gain))
        figures.append((count(round(gain[-1][0])), "steps were taken"))
    if watched:
        charts.append(_watch_chart(*watched))
    return Training(
        title="Warm-up",
        charts=charts,
        figures=figures,
        instead="The student was not warmed up in this run.",
    )


def _over_steps(
    series: Sequence[Series],
    caption: Caption,
    y_label: str,
    y_mark: Mark | None = None,
    y_range: tuple[float, float] | None = None,
) -> Chart:
    return lines(
        series, caption, x_label="step", y_label=y_label, y_mark=y_mark, y_range=y_range, whole=True
    )


def _loss_chart(loss: Curve) -> Chart:
    return _over_steps(
        [Series(name="loss", points=loss)],
        Caption(
            name="warmup-loss",
            title="Loss",
            summary=f"The loss of the preference optimization goes from {decimal(loss[0][1], 3)} "
            f"to {decimal(loss[-1][1], 3)}; ln 2, where it starts by definition, is marked.",
        ),
        y_label="DPO loss (nats per pair)",
        y_mark=(math.log(2), "ln 2, no preference yet"),
    )


def _accuracy_chart(accuracy: Curve) -> Chart:
    return _over_steps(
        [Series(name="accuracy", points=[(step, 100 * value) for step, value in accuracy])],
        Caption(
            name="warmup-preferred",
            title="How often the teacher's side is preferred",
            summary=f"The share of pairs in which the model prefers the chosen side goes from "
            f"{percent(accuracy[0][1])} to {percent(accuracy[-1][1])}.",
        ),
        y_label="pairs (%)",
        y_mark=(50, "chance"),
        y_range=(0, 100),
    )


def _gain_chart(gain: Curve) -> Chart:
    return _over_steps(
        [Series(name="reward margin", points=gain)],
        Caption(
            name="warmup-margin",
            title="How clearly it is preferred",
            summary=f"The reward of the chosen side minus that of the rejected side goes from "
            f"{decimal(gain[0][1], 2)} to {decimal(gain[-1][1], 2)}.",
        ),
        y_label="reward margin (\N{GREEK SMALL LETTER BETA} \N{MULTIPLICATION SIGN} nats)",
    )


def _watched(folder: Path) -> tuple[Curve, Curve] | None:
    """Distance and mismatch share that the warm-up found when it examined itself."""
    rows = read_log(folder / "warmup" / "watch.json")
    distance, mismatch = _curve(rows, "watch_kl"), _curve(rows, "watch_mismatch")
    return (distance, mismatch) if len(distance) > 1 else None


def _watch_chart(distance: Curve, mismatch: Curve) -> Chart:
    nearest, at = min((value, step) for step, value in distance)
    return _over_steps(
        [Series(name="KL(student \N{DOUBLE VERTICAL LINE} teacher)", points=distance)],
        Caption(
            name="warmup-distance",
            title="Distance from the teacher on held-out prompts",
            summary=f"KL(student \N{DOUBLE VERTICAL LINE} teacher) on the student's own samples "
            f"goes from {decimal(distance[0][1], 3)} to {decimal(distance[-1][1], 3)}, the share "
            f"of them that mismatch from {percent(mismatch[0][1])} to "
            f"{percent(mismatch[-1][1])}. It was nearest, {decimal(nearest, 3)}, after step "
            f"{at:.0f}.",
        ),
        y_label="KL (nats per token)",
        y_mark=(distance[0][1], "the student as it came"),
    )


def _distillation(folder: Path) -> Training:
    curves = {
        MODELS[stage]: _curve(_read_log(folder / stage), "loss") for stage in ("distill", "control")
    }
    curves = {name: curve for name, curve in curves.items() if curve}
    ends = {name: decimal(curve[-1][1], 3) for name, curve in curves.items()}
    summary = ", ".join(f"{name} ends at {end}" for name, end in ends.items())
    chart = _over_steps(
        [Series(name=name, points=curve) for name, curve in curves.items()],
        Caption(
            name="distill-loss",
            title="Loss",
            summary=f"The loss of the distillation; {summary}.",
        ),
        y_label="loss (nats per token)",
    ) if curves else None  # fmt: skip
    return Training(
        title="Distillation",
        charts=[chart] if chart else [],
        figures=[(end, f"is the loss at the end, {name}") for name, end in ends.items()],
        instead="No student was distilled in this run.",
    )


def _cut(folder: Path) -> Training:
    loss = _curve(_read_log(folder / "cut"), "loss")
    ends = [decimal(value, 3) for _, value in (loss[0], loss[-1])] if loss else []
    chart = _over_steps(
        [Series(name="loss", points=loss)],
        Caption(
            name="cut-loss",
            title="Loss",
            summary=f"The loss goes from {ends[0]} to {ends[1]}.",
        ),
        y_label="loss (nats per token)",
    ) if loss else None  # fmt: skip
    return Training(
        title="Healing of the cut student",
        charts=[chart] if chart else [],
        figures=[(end, f"is the loss at the {where}") for end, where in
                 zip(ends, ("start", "end"), strict=False)],
    )  # fmt: skip
