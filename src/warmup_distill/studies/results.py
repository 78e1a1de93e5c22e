"""What the runs of a study say, in two tables: a row for each run, and for each evaluated model."""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from warmup_distill.errors import RunError
from warmup_distill.foreign.showing import clean
from warmup_distill.page.measures import MEASURES
from warmup_distill.page.mismatches import survey_rollouts
from warmup_distill.page.table import table_rows
from warmup_distill.records import Rollout
from warmup_distill.store.artifacts import read_json, read_parts, write_bytes
from warmup_distill.store.manifest import Entries, Manifest, is_complete
from warmup_distill.studies.settings import Run
from warmup_distill.training.watch import kept

Row = dict[str, Any]

MISMATCHES: dict[str, str] = {
    "mismatching": "samples with a mismatch (%)",
    "median_index": "median mismatch index (tokens)",
    "replaced": "tokens of these replaced (%)",
    "wrong_to_right": "of wrong answers, made right (%)",
    "right_to_wrong": "of right answers, made wrong (%)",
}
WATCHED: dict[str, str] = {
    "watch_kl": "held-out KL(student ‖ teacher) (nats)",
    "watch_mismatch": "held-out samples with a mismatch (%)",
}
MEASURED = MISMATCHES | WATCHED
"""What is measured of a run before anything is evaluated: columns, and what the page calls them."""


def stage_of(column: str) -> str:
    """The stage that leaves what a column of `MEASURED` says."""
    return "pairs" if column in MISMATCHES else "warmup"


def entries_of(folder: Path) -> Entries:
    """What a run's manifest says of its stages; nothing where it cannot be read, which the run
    itself says when it is its turn."""
    try:
        return Manifest(folder).entries
    except RunError:
        return {}


def is_done(run: Run, entries: Entries) -> bool:
    """Whether every stage that a run is to have is complete."""
    return all(is_complete(entries, stage) for stage in run.stages)


def run_row(run: Run, folder: Path, failed: str | None) -> Row:
    """What a run says of its rollouts and its warm-up, as far as it has come.

    Args:
        failed: what it said, if it ended with a message.
    """
    entries = entries_of(folder)
    done = not failed and is_done(run, entries)
    found: Row = {"run": run.name, **run.setting, "seed": run.seed}
    found["state"] = "complete" if done else "failed" if failed else "to do"
    own = (one.get("seconds", 0) for one in entries.values() if "from" not in one)
    found["seconds"] = round(sum(own), 1)
    if is_complete(entries, "pairs"):
        found |= _mismatches(run, folder, entries["pairs"]["counts"])
    if is_complete(entries, "warmup"):
        found |= _watched(folder)
    return found


def _mismatches(run: Run, folder: Path, pairs: Mapping[str, Any]) -> Row:
    replaced: list[float] = []
    rollouts = _noting_replaced(read_parts(folder / "rollouts", Rollout), replaced)
    survey = survey_rollouts(rollouts, run.recipe.rollouts.margin_threshold)
    found: Row = {
        "mismatching": 100 * survey.mismatching / survey.samples,
        "median_index": survey.median_index,
        "replaced": 100 * sum(replaced) / len(replaced) if replaced else None,
    }
    verdicts = pairs.get("verdicts") or {}
    for before, after in (("wrong", "right"), ("right", "wrong")):
        changed, same = (verdicts.get(f"{before}_to_{one}", 0) for one in (after, before))
        if changed + same:
            found[f"{before}_to_{after}"] = 100 * changed / (changed + same)
    return found


def _noting_replaced(rollouts: Iterable[Rollout], shares: list[float]) -> Iterator[Rollout]:
    """Pass rollouts on, and keep which share of each the teacher replaced: one pass over them."""
    for one in rollouts:
        if one.mismatch_index is not None:
            shares.append(1 - one.mismatch_index / len(one.completion_ids))
        yield one


def _watched(folder: Path) -> Row:
    path = folder / "warmup" / "watch.json"
    history = read_json(path) if path.is_file() else []
    if not history:
        return {}
    best = kept(history)
    return {
        "watch_kl": best["watch_kl"],
        "watch_mismatch": 100 * best["watch_mismatch"],
        "kl_before": history[0]["watch_kl"],
        "best_step": best["step"],
    }


def score_rows(run: Run, folder: Path) -> Iterator[Row]:
    """What a run says of each model on each benchmark."""
    for one in table_rows(folder) if is_complete(entries_of(folder), "evaluate") else ():
        values = {measure.key: one.value(measure.key) for measure in MEASURES}
        yield {
            "run": run.name, **run.setting, "seed": run.seed, "benchmark": one.benchmark,
            "model": one.model, "prompts": one.prompts, "samples": one.samples, **values,
            "operations": one.operations, "cost": one.cost,
        }  # fmt: skip


def write_table(folder: Path, name: str, rows: list[Row]) -> None:
    """Write rows as `name.parquet` and `name.csv`, the same each time."""
    columns = dict.fromkeys(key for row in rows for key in row)
    table = pa.table({key: _column([row.get(key) for row in rows]) for key in columns})
    parquet, text = io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    pa_csv.write_csv(table, text)
    write_bytes(folder / f"{name}.parquet", parquet.getvalue())
    write_bytes(folder / f"{name}.csv", text.getvalue())


def _column(values: list[Any]) -> pa.Array:
    """Numbers, truth values, or text; text too where they are not of one kind."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        whole = kinds == {int} and all(abs(v) < 2**53 for v in values if v is not None)
        if whole:
            return pa.array(values, pa.int64())
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    if kinds <= {bool}:
        return pa.array(values, pa.bool_())
    return pa.array([None if v is None else clean(str(v)) for v in values], pa.string())
