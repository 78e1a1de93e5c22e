"""Every objective on the bundled pair, with and without the warm-up, over seeds.

    python scripts/objectives.py runs/objectives --seeds 0 42 123

Rollouts, pairs and warm-up of a seed are made once, by the quickstart's recipe; then each
objective distils the warmed-up student and the student as it came with the same budget. Prints a
Markdown table; docs/objectives.md keeps it.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from scipy import stats

from warmup_distill.pipeline import opened, run_stage
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.distillation import OBJECTIVES
from warmup_distill.recipe.reading import load_recipe, validate
from warmup_distill.records import Prediction
from warmup_distill.stages.controls import distill_control
from warmup_distill.stages.distill import distill_warmed_up
from warmup_distill.stages.evaluate import evaluate_models
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_records

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"

VARIANTS: dict[str, dict[str, Any]] = {name: {"objective": name} for name in OBJECTIVES}
VARIANTS["sft on the teacher's completions"] = {
    "objective": "sft",
    "completions": {"source": "teacher"},
}
VARIANTS["reverse_kl, half on-policy"] = {
    "objective": "reverse_kl",
    "completions": {"student_share": 0.5},
}


def recipe_for(seed: int, **distill: Any) -> Recipe:
    values = load_recipe(RECIPE).model_dump(mode="json", exclude_none=True)
    values["seed"] = seed
    values["distill"] |= distill
    return validate(values, str(RECIPE))


def prepare(folder: Path, seed: int) -> Path:
    """The warmed-up student of one seed, and the scores of both students."""
    base = folder / f"seed-{seed}"
    with opened(recipe_for(seed), base) as session:
        for stage in ("prompts", "rollouts", "pairs", "warmup"):
            run_stage(session, stage)
        if not (base / "evaluate").exists():
            for unused in ("control", "distill"):  # so that evaluation finds a model everywhere
                shutil.copytree(base / "warmup", base / unused)
            evaluate_models(session)
    return base


def distil(base: Path, seed: int, name: str, settings: dict[str, Any]) -> Path:
    folder = base.parent / f"{base.name}-{name.replace(' ', '-').replace(',', '')}"
    if not (folder / "evaluate" / "distill" / "predictions.parquet").exists():
        for part in ("prompts", "warmup", "evaluate/student", "evaluate/warmup"):
            shutil.copytree(base / part, folder / part, dirs_exist_ok=True)
        session = Session(folder, recipe_for(seed, **settings))
        distill_control(session)
        distill_warmed_up(session)
        evaluate_models(session)
    return folder


def scores(folder: Path, model: str, decoding: str) -> list[float]:
    """One value per problem, in their order."""
    path = folder / "evaluate" / model / "predictions.parquet"
    return [one.value for one in read_records(path, Prediction) if one.decoding == decoding]


def mismatch(folder: Path, model: str) -> float:
    text = (folder / "evaluate" / model / "problems.json").read_text(encoding="utf-8")
    return float(json.loads(text)["agreement"]["mismatch_share"])


def row(name: str, folders: list[Path]) -> str:
    cells = [name]
    for decoding in ("greedy", "sampled"):
        differences = []
        for model in ("control", "distill"):
            values = [statistics.fmean(scores(folder, model, decoding)) for folder in folders]
            cells.append(f"{statistics.fmean(values):.1f}")
            differences.append(values)
        paired = [after - before for before, after in zip(*differences, strict=True)]
        cells.append(interval(paired))
    for model in ("control", "distill"):
        share = statistics.fmean(mismatch(folder, model) for folder in folders)
        cells.append(f"{share:.1%}")
    return f"| {' | '.join(cells)} |"


def interval(paired: list[float]) -> str:
    """Mean of the paired differences and the 95% interval over seeds."""
    mean = statistics.fmean(paired)
    if len(paired) < 2:
        return f"{mean:+.1f}"
    half = stats.t.ppf(0.975, len(paired) - 1) * stats.sem(paired)
    return f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


HEAD = (
    "| objective | greedy: without | with | difference | sampled: without | with | difference | "
    "mismatch: without | with |\n" + "| --- " * 9 + "|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 42, 123])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    bases = {seed: prepare(arguments.folder, seed) for seed in arguments.seeds}
    print(HEAD, flush=True)
    for name in arguments.only:
        folders = [distil(base, seed, name, VARIANTS[name]) for seed, base in bases.items()]
        print(row(name, folders), flush=True)


if __name__ == "__main__":
    main()
