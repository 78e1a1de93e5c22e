"""The table of a run: how each of its models scores, and how far each is from the teacher.

Means are 0 to 100 with their standard error; margins and divergences are in nats per token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.foreign.reading import reading
from warmup_distill.ledger.paths import compute
from warmup_distill.page.words import count, operations
from warmup_distill.store.artifacts import read_json
from warmup_distill.store.leaves import MANIFEST

MODELS = {
    "student": "student as it came",
    "warmup": "warmed up only",
    "cold_start": "started cold only",
    "control": "distilled only",
    "control_compute": "distilled for longer",
    "control_cold_start": "started cold, distilled",
    "control_corrected": "distilled on corrected",
    "distill": "warmed up and distilled",
}
"""The models of a run, in the order of the table, and what the table calls them."""

EXPLAINED = {
    "cold_start": "trained on the teacher's completions of the same prompts, for what rollouts and "
    "warm-up cost",
    "control_compute": "not warmed up, and distilled in as many more steps as rollouts and warm-up "
    "cost",
    "control_cold_start": "started cold, then distilled in the same steps",
    "control_corrected": "not warmed up, and distilled in the same steps on the student's "
    "completions as the teacher corrected them in the rollouts",
}
"""What controls are that a label cannot say."""

METRICS = {"accuracy": "accuracy in %", "rouge_l": "Rouge-L × 100"}
"""What the table calls a metric; others go by their own names."""


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
    samples: int
    """Completions of each prompt that were sampled."""
    checked: int
    """How many of them, over all prompts, the teacher checked."""
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
    operations: int | None
    """Floating-point operations of all that went into the model; see docs/cost.md."""
    cost: float | None
    """The same relative to the model that was warmed up and distilled."""

    def value(self, key: str) -> float | None:
        """The number by which a measure's key is known."""
        found: Score | float | None = getattr(self, key)
        return found.mean if isinstance(found, Score) else found

    def error(self, key: str) -> float | None:
        """The standard error of a score; None for what has none."""
        found: Score | float | None = getattr(self, key)
        return found.standard_error if isinstance(found, Score) else None


def table_rows(folder: Path) -> list[TableRow]:
    """The rows of a run directory, benchmarks by name, models in the order of `MODELS`.

    Raises:
        RunError: a result of an evaluation is none.
    """
    spent = _operations(folder)
    names = sorted({path.stem for path in folder.glob("evaluate/*/*.json")})
    paths = [
        (model, folder / "evaluate" / model / f"{name}.json") for name in names for model in MODELS
    ]
    return [_row(model, path, spent) for model, path in paths if path.is_file()]


def _operations(folder: Path) -> dict[str, int | None]:
    """What went into each model, as far as the manifest says it."""
    path = folder / MANIFEST
    what = f"{path} does not say what the stages cost. Put back a copy of it"
    with reading(RunError, what):
        stages = read_json(path)["stages"] if path.is_file() else {}
        return {model: compute(stages, model) for model in MODELS}


def metric_words(row: TableRow) -> str:
    """What its scores are."""
    return METRICS.get(row.metric, row.metric)


def caption(rows: Sequence[TableRow]) -> str:
    """What a table of one benchmark shows, and over how many prompts."""
    first = rows[0]
    said = f"{metric_words(first)}, {count(first.prompts)} prompts"
    if first.samples > 1:
        said += f", {count(first.samples)} samples of each"
    if 0 < first.checked < first.prompts * first.samples:
        said += f"; {count(first.checked // first.samples)} of them checked by the teacher"
    return said


def explanations(rows: Sequence[TableRow]) -> list[tuple[str, str]]:
    """Label and explanation of the controls of a table."""
    return [(row.label, EXPLAINED[row.model]) for row in rows if row.model in EXPLAINED]


def cost_note(rows: Sequence[TableRow]) -> str | None:
    """What the column of costs says; None where it has nothing to say."""
    whole = next((row for row in rows if row.model == "distill" and row.cost is not None), None)
    if whole is None or whole.operations is None:
        return None
    return (
        "Cost: floating-point operations of all that went into a model, relative to the "
        f"{operations(whole.operations)} of the one {whole.label}."
    )


def _row(model: str, path: Path, spent: Mapping[str, int | None]) -> TableRow:
    result = read_json(path)
    what = f"{path} is no result of an evaluation by this program"
    with reading(RunError, f"{what}. Put back a copy of it, or move it away if it is yours"):
        return _of(model, result, spent)


def _of(model: str, result: dict[str, Any], spent: Mapping[str, int | None]) -> TableRow:
    agreement = result.get("agreement") or {}
    ours, whole = spent[model], spent["distill"]
    return TableRow(
        benchmark=result["benchmark"],
        metric=result["metric"],
        prompts=result["prompts"],
        model=model,
        label=MODELS[model],
        samples=result.get("samples", 1),
        checked=agreement.get("samples", 0),
        greedy=_score(result.get("greedy")),
        sampled=_score(result.get("sampled")),
        mismatch_share=agreement.get("mismatch_share"),
        mean_margin=agreement.get("mean_margin"),
        forward_kl=agreement.get("forward_kl"),
        reverse_kl=agreement.get("reverse_kl"),
        operations=ours,
        cost=None if ours is None or not whole else ours / whole,
    )


def _score(value: dict[str, float] | None) -> Score | None:
    return Score(mean=value["mean"], standard_error=value["standard_error"]) if value else None
