"""Stage `report`: a page for people, its figures for papers, and numbers for programs."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from warmup_distill.page.build import Page, render
from warmup_distill.page.cards import make_card
from warmup_distill.page.findings import findings
from warmup_distill.page.mismatches import mismatch_charts, survey_rollouts
from warmup_distill.page.scores import score_charts
from warmup_distill.page.table import table_rows
from warmup_distill.page.training import trainings
from warmup_distill.recipe import Recipe
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.store.artifacts import (
    parts_in,
    read_json,
    read_parts,
    write_bytes,
    write_json,
    write_text,
)

_Key = tuple[str, int]
Record = TypeVar("Record")


def make_report(folder: Path, recipe: Recipe, tokenizer: Any) -> dict[str, int]:
    """Write report/index.html, report/report.json and report/figures/ of a run directory.

    Args:
        folder: the run directory; what its stages have not written yet, the page says.
        tokenizer: the one that the token ids belong to.
    """
    manifest_path = folder / "manifest.json"
    manifest = read_json(manifest_path) if manifest_path.is_file() else {}
    page = _read_run(folder, recipe, manifest, tokenizer)
    write_text(folder / "report" / "index.html", render(page))
    write_json(folder / "report" / "report.json", _numbers(page))
    for chart in page.charts():
        for name, content in chart.files():
            write_bytes(folder / "report" / "figures" / name, content)
    return {"pairs_shown": len(page.cards)}


def _read_run(folder: Path, recipe: Recipe, manifest: dict[str, Any], tokenizer: Any) -> Page:
    prompts = {prompt.prompt_id: prompt for prompt in _records(folder / "prompts", Prompt)}
    pairs = list(islice(_records(folder / "pairs", Pair), recipe.report.max_pairs))
    shown: dict[_Key, Rollout | None] = {_key(pair): None for pair in pairs}
    survey = survey_rollouts(
        _keeping(_records(folder / "rollouts", Rollout), shown), recipe.rollouts.margin_threshold
    )
    table = table_rows(folder)
    return Page(
        name=recipe.report.title or manifest.get("name") or folder.resolve().name,
        recipe=recipe,
        manifest=manifest,
        prompts=len(prompts),
        table=table,
        findings=findings(folder, table),
        score_charts=score_charts(folder, table),
        survey=survey,
        mismatch_charts=mismatch_charts(survey, stopped=recipe.rollouts.stop_at_mismatch),
        trainings=trainings(folder),
        cards=[
            make_card(pair, prompts.get(pair.prompt_id), shown[_key(pair)], tokenizer)
            for pair in pairs
        ],
    )


def _records(folder: Path, record_type: type[Record]) -> Iterator[Record]:
    """The records of a stage, if it has written any."""
    return read_parts(folder, record_type) if parts_in(folder) else iter(())


def _key(record: Pair | Rollout) -> _Key:
    return record.prompt_id, record.sample_index


def _keeping(rollouts: Iterable[Rollout], shown: dict[_Key, Rollout | None]) -> Iterator[Rollout]:
    """Pass the rollouts on, and keep those of the pairs that are shown: one pass over the file."""
    for rollout in rollouts:
        if _key(rollout) in shown:
            shown[_key(rollout)] = rollout
        yield rollout


def _numbers(page: Page) -> dict[str, Any]:
    """The numbers behind the page."""
    counts = page.manifest.get("stages", {}).get("pairs", {}).get("counts", {})
    return {
        "name": page.name,
        "table": [asdict(row) for row in page.table],
        "did_the_warmup_help": [finding.numbers() for finding in page.findings],
        "mismatches": asdict(page.survey),
        "pairs": {key: value for key, value in counts.items() if key != "verdicts"},
        "verdicts": counts.get("verdicts"),
    }
