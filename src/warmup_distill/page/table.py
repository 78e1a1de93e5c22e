"""The table of a run: how each of its models scores, and how far each is from the teacher.

Means are 0 to 100 with their standard error; margins and divergences are in nats per token.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from warmup_distill.store.artifacts import read_json

MODELS = {
    "student": "student as it came",
    "warmup": "warmed up only",
    "control": "distilled only",
    "distill": "warmed up and distilled",
}
"""The models of a run, in the order of the table, and what the table calls them."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A mean over prompts, 0 to 100, and its standard error."""

    mean: float
    standard_error: float


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One model on one benchmark; None where something was not measured."""

    benchmark: str
    metric: str
    prompts: int
    model: str
    label: str
    """What the model is, in words."""
    greedy: Score | None
    sampled: Score | None
    mismatch_share: float | None
    """Share of the model's own samples with a mismatch, 0 to 1."""
    mean_margin: float | None
    """Margin averaged over the tokens of the model's own samples, nats per token."""
    forward_kl: float | None
    """KL(teacher ‖ model), nats per token."""
    reverse_kl: float | None
    """KL(model ‖ teacher), nats per token."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Whether the warm-up helped: warmed up and distilled against distilled only, sampled."""

    benchmark: str
    answer: Literal["yes", "no clear difference", "no, it hurt"]
    with_warmup: Score
    without: Score
    difference: float
    """Points, positive where the warm-up helped."""
    standard_error: float
    """Of the difference, the two scores' errors treated as independent."""


def table_rows(folder: Path) -> list[TableRow]:
    """The rows of a run directory, benchmarks by name, models in the order of `MODELS`."""
    names = sorted({path.stem for path in folder.glob("evaluate/*/*.json")})
    paths = [
        (model, folder / "evaluate" / model / f"{name}.json") for name in names for model in MODELS
    ]
    return [_row(model, read_json(path)) for model, path in paths if path.is_file()]


def _row(model: str, result: dict[str, Any]) -> TableRow:
    agreement = result.get("agreement") or {}
    return TableRow(
        benchmark=result["benchmark"],
        metric=result["metric"],
        prompts=result["prompts"],
        model=model,
        label=MODELS[model],
        greedy=_score(result.get("greedy")),
        sampled=_score(result.get("sampled")),
        mismatch_share=agreement.get("mismatch_share"),
        mean_margin=agreement.get("mean_margin"),
        forward_kl=agreement.get("forward_kl"),
        reverse_kl=agreement.get("reverse_kl"),
    )


def _score(value: dict[str, float] | None) -> Score | None:
    return Score(mean=value["mean"], standard_error=value["standard_error"]) if value else None


def findings(rows: list[TableRow]) -> list[Finding]:
    """One finding per benchmark on which both distilled models were sampled."""
    sampled = {(row.benchmark, row.model): row.sampled for row in rows}
    found = []
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        with_warmup = sampled.get((benchmark, "distill"))
        without = sampled.get((benchmark, "control"))
        if with_warmup and without:
            found.append(_compare(benchmark, with_warmup, without))
    return found


def _compare(benchmark: str, with_warmup: Score, without: Score) -> Finding:
    difference = with_warmup.mean - without.mean
    error = math.hypot(with_warmup.standard_error, without.standard_error)
    clear = abs(difference) > 2 * error
    return Finding(
        benchmark=benchmark,
        answer="no clear difference" if not clear else "yes" if difference > 0 else "no, it hurt",
        with_warmup=with_warmup,
        without=without,
        difference=difference,
        standard_error=error,
    )
