"""Try warm-up settings on the quickstart's rollouts, scored on dev problems (never on test).

    python scripts/sweep.py runs/sweep --seeds 0

The rollouts and pairs of a seed are made once; every setting then warms up, distils with the
recipe's budget and is evaluated. Prints a Markdown table; docs/sweep.md keeps one.
"""

import argparse
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

from warmup_distill.pipeline import opened, run_stage
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import load_recipe, validate
from warmup_distill.stages.controls import distill_control
from warmup_distill.stages.distill import distill_warmed_up
from warmup_distill.stages.evaluate import evaluate_models
from warmup_distill.stages.session import Session
from warmup_distill.stages.warmup import train_warmup

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"

BETAS = (0.1, 0.5, 1.0)
LEARNING_RATES = (1e-4, 3e-4, 1e-3)
HEAD = (
    "| seed | β | learning rate | steps | model | greedy | sampled | mismatch | margin |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def recipe_for(seed: int, **warmup: Any) -> Recipe:
    values = load_recipe(RECIPE).model_dump(mode="json", exclude_none=True)
    values["seed"] = seed
    values["warmup"] |= warmup
    values["evaluate"] |= {
        "agreement_prompts": 1000,
        "benchmarks": [
            {"name": "dev", "dataset": "bundled:problems", "split": "dev", "limit": 1000}
        ],
    }
    return validate(values, str(RECIPE))


def prepare(folder: Path, seed: int) -> Path:
    """Rollouts, pairs, the control, and the scores of student and control of one seed."""
    base = folder / f"seed-{seed}"
    with opened(recipe_for(seed), base) as session:
        for stage in ("prompts", "rollouts", "pairs"):
            run_stage(session, stage)
        if not (base / "evaluate").exists():
            distill_control(session)
            for unused in ("warmup", "distill"):  # so that evaluation finds a model everywhere
                shutil.copytree(base / "control", base / unused)
            evaluate_models(session)
    return base


def try_setting(base: Path, seed: int, warmup: dict[str, Any]) -> Path:
    name = "-".join(f"{key}-{value}" for key, value in warmup.items())
    folder = base.parent / f"{base.name}-{name}"
    if not (folder / "evaluate" / "distill").exists():
        for part in ("prompts", "pairs", "evaluate/student", "evaluate/control", "control"):
            shutil.copytree(base / part, folder / part, dirs_exist_ok=True)
        session = Session(folder, recipe_for(seed, **warmup))
        train_warmup(session)
        distill_warmed_up(session)
        evaluate_models(session)
    return folder


def row(folder: Path, model: str, seed: int, warmup: dict[str, Any]) -> str:
    result = json.loads((folder / "evaluate" / model / "dev.json").read_text(encoding="utf-8"))
    agreement = result["agreement"]
    settings = [warmup.get(key, "–") for key in ("beta", "learning_rate", "max_steps")]
    scores = f"{result['greedy']['mean']:.1f} | {result['sampled']['mean']:.1f}"
    share = f"{100 * agreement['mismatch_share']:.1f}% | {agreement['mean_margin']:.3f}"
    return f"| {seed} | {' | '.join(map(str, settings))} | {model} | {scores} | {share} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--betas", type=float, nargs="+", default=BETAS)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=LEARNING_RATES)
    parser.add_argument("--max-steps", type=int, nargs="+", default=[None])
    arguments = parser.parse_args()
    print(HEAD, flush=True)
    for seed in arguments.seeds:
        base = prepare(arguments.folder, seed)
        for model in ("student", "control"):
            print(row(base, model, seed, {}), flush=True)
        grid = itertools.product(arguments.betas, arguments.learning_rates, arguments.max_steps)
        for beta, rate, steps in grid:
            warmup = {"beta": beta, "learning_rate": rate}
            warmup |= {"max_steps": steps} if steps else {}
            folder = try_setting(base, seed, warmup)
            for model in ("warmup", "distill"):
                print(row(folder, model, seed, warmup), flush=True)


if __name__ == "__main__":
    main()
