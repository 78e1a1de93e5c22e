"""The commands that run a recipe many times: `study` and `tune`."""

import math
from pathlib import Path
from typing import Annotated

import typer

from warmup_distill.cli.options import (
    OutputDir,
    Overrides,
    RayAddress,
    RecipePath,
    WorkersOption,
    cluster_overrides,
    run_directory,
)
from warmup_distill.cli.screen import say
from warmup_distill.store.stopping import listening


def study_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study in YAML.")],
    set_: Overrides = None,
    output_dir: OutputDir = None,
    workers: WorkersOption = None,
    ray_address: RayAddress = None,
) -> None:
    """Run a recipe with many settings and seeds; what runs share is made once."""
    from warmup_distill.studies.running import run_study
    from warmup_distill.studies.settings import load_study

    overrides = [*(set_ or []), *cluster_overrides(workers, ray_address)]
    loaded = load_study(study, tuple(overrides))
    folder = run_directory(study, output_dir)
    with listening():
        failures = run_study(loaded, folder)
    for name, why in failures.items():
        say(f"\n{name} failed: {why}")
    say(f"\nStudy: {folder / 'index.html'}")
    if failures:
        raise typer.Exit(1)


def tune_command(
    recipe: RecipePath,
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Trials at the most.")] = 40,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="No trial begins after so long.")
    ] = None,
    set_: Overrides = None,
    output_dir: OutputDir = None,
    workers: WorkersOption = None,
    ray_address: RayAddress = None,
) -> None:
    """Find β, learning rate and length of the warm-up on held-out prompts: RECIPE.tuned.yaml."""
    from warmup_distill.tuning.search import Budget, tune

    overrides = [*(set_ or []), *cluster_overrides(workers, ray_address)]
    budget = Budget(trials=trials, seconds=math.inf if minutes is None else 60 * minutes)
    folder = output_dir or Path("runs") / f"{recipe.stem}.tune"
    with listening():
        tuned = tune(recipe, overrides, folder, budget)
    say(f"\nTrials: {folder / 'trials.csv'}\nRecipe: {tuned}")
