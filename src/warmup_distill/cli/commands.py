"""The commands: what stands on the command line, and what is called with it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from warmup_distill.cli.options import (
    MOST,
    DTypeName,
    OutputDir,
    Overrides,
    ProfileName,
    RayAddress,
    RecipePath,
    Redo,
    WorkersOption,
    cluster_alone,
    cluster_overrides,
    require_fitting_options,
    run_directory,
    server_at,
)
from warmup_distill.cli.screen import say, show
from warmup_distill.errors import RunError
from warmup_distill.store.stopping import listening

STAGE_HELP = {
    "prompts": "Read the prompts and turn them into token ids.",
    "cut": "Make the student by keeping some of its layers, and heal it.",
    "rollouts": "Sample from the student; the teacher checks and continues.",
    "pairs": "Make preference pairs and filter them.",
    "warmup": "Align the student by preference optimization.",
    "distill": "Distil the teacher into the warmed-up student.",
    "control": "Distil the teacher into the student that was not warmed up.",
    "control_compute": "The same until it has cost as much as with the warm-up.",
    "cold_start": "Train the student on the teacher's completions for what the warm-up cost.",
    "control_cold_start": "Distil the teacher into the student that was started cold.",
    "control_corrected": "Distil on the corrected completions, without the warm-up.",
    "evaluate": "Score every model of the run.",
    "report": "Write the page that shows what happened.",
}


def run_command(
    recipe: RecipePath,
    set_: Overrides = None,
    output_dir: OutputDir = None,
    redo: Redo = False,
    workers: WorkersOption = None,
    ray_address: RayAddress = None,
) -> None:
    """Run all stages; picks up where it stopped."""
    from warmup_distill.pipeline import run
    from warmup_distill.recipe.reading import load_recipe

    loaded = load_recipe(recipe, [*(set_ or []), *cluster_overrides(workers, ray_address)])
    with listening():
        folder = run(loaded, run_directory(recipe, output_dir), redo=redo)
    _print_tables(folder)
    say(f"\nReport: {folder / 'report' / 'index.html'}")


def stage_command(stage: str) -> Callable[..., None]:
    """The command that runs one stage."""

    def command(
        recipe: RecipePath,
        set_: Overrides = None,
        output_dir: OutputDir = None,
        redo: Redo = False,
        workers: WorkersOption = None,
        ray_address: RayAddress = None,
    ) -> None:
        from warmup_distill.pipeline import opened, run_stage, stages_of
        from warmup_distill.recipe.reading import load_recipe

        loaded = load_recipe(recipe, [*(set_ or []), *cluster_overrides(workers, ray_address)])
        if stage not in stages_of(loaded):
            raise RunError(f"the recipe {recipe} does not ask for the stage {stage}.")
        folder = run_directory(recipe, output_dir)
        with listening(), opened(loaded, folder, redo=redo, stage=stage) as session:
            run_stage(session, stage)

    return command


def evaluate_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN|MODEL",
            help="A recipe, for its stage; with --suite a run directory, or a model by name.",
        ),
    ],
    suite: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Benchmarks, as gsm8k,self_inst; or all.")
    ] = None,
    profile: Annotated[
        ProfileName, typer.Option(help="The papers' protocol, or chat template and greedy.")
    ] = ProfileName.CLEAN,
    limit: Annotated[int | None, typer.Option(min=1, max=MOST, help="Rows of each suite.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The suites' files; the hub if absent.")
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, help="Longest completion; the profile's if absent."),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, help="Tokens at once; as many as fit if absent."),
    ] = None,
    dtype: Annotated[DTypeName, typer.Option(help="Of the weights.")] = DTypeName.FLOAT32,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Of vLLM, which holds the model.")
    ] = None,
    server_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the model on its server.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="That holds the server's key.")
    ] = None,
    set_: Overrides = None,
    output_dir: OutputDir = None,
    redo: Redo = False,
    workers: WorkersOption = None,
    ray_address: RayAddress = None,
) -> None:
    """Score every model of a run, or any model on the field's benchmarks."""
    require_fitting_options(
        suite,
        for_suites={
            "--limit": limit,
            "--data": data,
            "--max-new-tokens": max_new_tokens,
            "--server": server,
            "--server-model": server_model,
            "--api-key-env": api_key_env,
        },
        for_stages={"--set": set_, "--redo": redo},
    )
    if suite is None:
        if Path(target).suffix not in (".yaml", ".yml"):
            raise RunError(
                f"expected a recipe (.yaml), got {target}. To evaluate a model or a run on the "
                "benchmarks of the field, add --suite NAMES."
            )
        stage_command("evaluate")(Path(target), set_, output_dir, redo, workers, ray_address)
        return
    if Path(target).suffix in (".yaml", ".yml"):
        raise RunError(
            f"{target} is a recipe; --suite wants a model, or a run directory such as "
            f"{Path('runs') / Path(target).stem}."
        )
    from warmup_distill.suites.evaluation import ask, evaluate_model, evaluate_run, is_run
    from warmup_distill.suites.showing import suite_table

    question = ask(
        suite, profile.value, limit, data, max_new_tokens, batch_tokens or "auto", dtype.value
    )
    question = replace(
        question,
        cluster=cluster_alone(workers, ray_address),
        server=server_at(server, server_model, api_key_env),
    )
    with listening():
        if is_run(target):
            paths = evaluate_run(Path(target), question)
        else:
            slug = re.sub(r"[^A-Za-z0-9._-]+", "-", target).strip("-.")[:100] or "model"
            paths = evaluate_model(target, output_dir or Path("evaluations") / slug, question)
    show(suite_table(paths), width=max(Console().width, 100))  # numbers are never cut off
    say(f"\nResults: {paths[0].parent if not is_run(target) else Path(target) / 'suites'}")


def plan_command(
    recipe: RecipePath,
    set_: Overrides = None,
    output_dir: OutputDir = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Load the weights and estimate the time.")
    ] = False,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N,...]", help="Plan for N workers; compare with other numbers of them."
        ),
    ] = None,
    ray_address: RayAddress = None,
    stragglers: Annotated[
        float, typer.Option(min=0, max=1, help="Share of parts that take three times as long.")
    ] = 0.02,
    failures: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of parts that are lost and sent again.")
    ] = 0.01,
) -> None:
    """Check what can be known of a recipe, or a study, before weights are loaded."""
    from warmup_distill.planning.outlook import Trouble
    from warmup_distill.planning.page import plan
    from warmup_distill.recipe.reading import load_recipe

    compared = _numbers(workers)
    first = compared[0] if compared else None
    overrides = [*(set_ or []), *cluster_overrides(first, ray_address)]
    if _is_study(recipe):
        _plan_study(recipe, overrides, output_dir, measure)
        return
    loaded = load_recipe(recipe, overrides)
    with listening():
        text, problems = plan(
            loaded,
            run_directory(recipe, output_dir),
            measured=measure,
            compared=compared,
            trouble=Trouble(stragglers=stragglers, failures=failures),
        )
    say(text)
    if problems:
        raise typer.Exit(2)


def _is_study(path: Path) -> bool:
    """Whether a file names a recipe in place of being one."""
    from warmup_distill.recipe.reading import read_values

    return "recipe" in read_values(path, "a recipe")


def _plan_study(path: Path, overrides: list[str], folder: Path | None, measured: bool) -> None:
    from warmup_distill.studies.planning import plan_study
    from warmup_distill.studies.settings import load_study

    study = load_study(path, tuple(overrides))
    with listening():
        text, problems = plan_study(study, run_directory(path, folder), measured=measured)
    say(text)
    if problems:
        raise typer.Exit(2)


def _numbers(workers: str | None) -> list[int]:
    """Numbers of workers, as 8 or 8,1,64."""
    if workers is None:
        return []
    parts = [part.strip() for part in workers.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < len(part) < 6 for part in parts):
        raise RunError(f"--workers expects a number such as 8, or several as 8,1,64; got {workers}")
    return [int(part) for part in parts]


def _print_tables(folder: Path) -> None:
    from warmup_distill.page.terminal import WIDTH, render_tables

    wide = max(Console().width, WIDTH)  # numbers are never cut off
    for table in render_tables(folder):
        show(table, width=wide)
