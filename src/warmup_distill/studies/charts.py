"""The figures of a study: score against compute of every path, and what varies with a field."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from warmup_distill.figures.chart import Caption, Chart
from warmup_distill.figures.curves import intervals
from warmup_distill.figures.data import Mark, Measurement
from warmup_distill.page.measures import Measure
from warmup_distill.page.words import enumeration
from warmup_distill.recipe import Recipe
from warmup_distill.store.fingerprints import readers
from warmup_distill.studies.results import MEASURED, Row, stage_of
from warmup_distill.studies.summary import JUDGED, Outcome, Setting

NOTE = (
    "Bars are 95% intervals of each model by itself, over prompts and training seeds. All answered "
    "the same prompts, so a difference is known better than they suggest: see the table."
)


def compute_charts(outcomes: Sequence[Outcome]) -> Iterator[Chart]:
    """Score against what went into each model: a figure for each benchmark, score and setting; a
    line for each path, its points the values of the field that varies last."""
    for (benchmark, name), some in _alike(outcomes).items():
        for measure in (one for one in JUDGED if one.is_score):
            series = _paths(some, measure)
            if sum(map(len, series.values())) > 1:
                start = _start(some[0], measure)
                yield _compute_chart(series, measure, benchmark, name, some[0].metric, start)


def _alike(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """Outcomes that are one figure: by benchmark, and by all that varies but the last field."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        found.setdefault((one.benchmark, said(_but_last(one.setting))), []).append(one)
    return found


def _but_last(setting: Setting) -> dict[str, Any]:
    fields = [name for name in setting if name != "setting"]
    return {name: value for name, value in setting.items() if name not in fields[-1:]}


def _paths(outcomes: Sequence[Outcome], measure: Measure) -> dict[str, list[Measurement]]:
    """By the path's label its points, the cheapest first; those that are alike once."""
    found: dict[str, dict[tuple[float, float], Measurement]] = {}
    for outcome in outcomes:
        for one in outcome.standings:
            value = one.values.get(measure.key)
            if value is not None and one.operations:
                point = Measurement(x=one.operations, y=value.mean, low=value.low, high=value.high)
                found.setdefault(one.label, {})[point.x, point.y] = point
    return {label: [some[at] for at in sorted(some)] for label, some in found.items()}


def _start(outcome: Outcome, measure: Measure) -> Mark | None:
    """The student as it came, which cost nothing and so has no place along the axis."""
    for one in outcome.standings:
        if not one.operations and measure.key in one.values:
            return one.values[measure.key].mean, one.label
    return None


def _compute_chart(
    series: Mapping[str, Sequence[Measurement]],
    measure: Measure,
    benchmark: str,
    name: str,
    metric: str,
    start: Mark | None,
) -> Chart:
    where = f"{benchmark}, {name}" if name else benchmark
    caption = Caption(
        name=file_name(f"{measure.key}-compute-{where}"),
        title=f"{measure.title[0].upper()}{measure.title[1:]} against compute on {where}",
        summary=f"The score of {enumeration(list(series))} over the floating-point operations of "
        "all that went into each model.",
        note=NOTE,
    )
    return intervals(
        series,
        caption,
        x_label="compute (floating-point operations)",
        y_label=f"{measure.heading}, {metric}",
        y_mark=start,
        log_x=True,
    )


def field_charts(
    rows: Sequence[Row], settings: Sequence[Setting], recipe: Recipe
) -> Iterator[Chart]:
    """What is measured before anything is evaluated, over each number that varies and changes it; a
    line for each combination of the others."""
    changes = {name: readers([name], recipe) for setting in settings for name in setting}
    for field in _numbers(settings):
        for column, words in MEASURED.items():
            stage = stage_of(column)
            others = [
                name
                for name in changes
                if name != field and (name == "setting" or stage in changes[name])
            ]
            series = _over(rows, field, others, column)
            if stage in changes[field] and any(len(some) > 1 for some in series.values()):
                yield _field_chart(series, field, column, words)


def _numbers(settings: Sequence[Setting]) -> list[str]:
    """Fields of which at least two values are there, all of them positive numbers."""
    found = []
    for field in dict.fromkeys(name for setting in settings for name in setting):
        values = {setting.get(field) for setting in settings if _is_simple(setting.get(field))}
        if len(values) > 1 and all(isinstance(v, int | float) and v > 0 for v in values):
            found.append(field)
    return found


def _is_simple(value: Any) -> bool:
    return not isinstance(value, list | dict)


def _over(
    rows: Sequence[Row], field: str, others: Sequence[str], column: str
) -> dict[str, list[Measurement]]:
    """Points of a column over a field, by what the other names that change it are set to."""
    found: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        if row.get(column) is not None:
            series = said({name: row[name] for name in others}) or "all runs"
            values = found.setdefault(series, {}).setdefault(float(row[field]), [])
            values.append(float(row[column]))
    return {
        series: [
            Measurement(x=x, y=sum(some) / len(some), low=min(some), high=max(some))
            for x, some in sorted(points.items())
        ]
        for series, points in found.items()
    }


def _field_chart(
    series: Mapping[str, Sequence[Measurement]], field: str, column: str, words: str
) -> Chart:
    short = field.rpartition(".")[2].replace("_", " ")
    title = words.partition(" (")[0]
    caption = Caption(
        name=file_name(f"{column}-{field}"),
        title=f"{title[0].upper()}{title[1:]}, and {short}",
        summary=f"{words} as {field} varies.",
        note="Bars reach from the smallest to the largest of the seeds."
        if any(one.low < one.high for some in series.values() for one in some)
        else None,
    )
    xs = [one.x for some in series.values() for one in some]
    far = max(xs) >= 20 * min(xs)
    return intervals(series, caption, x_label=field, y_label=words, log_x=far)


def said(setting: Setting) -> str:
    """A setting in a few words, such as `few references, warmup.beta 0.5`."""
    parts = [
        str(value) if name == "setting" else f"{name} {value}" for name, value in setting.items()
    ]
    return ", ".join(parts)


def file_name(text: str) -> str:
    """Of a figure's files."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "figure"
