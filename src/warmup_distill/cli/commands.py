"""The commands: what stands on the command line, and what is called with it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from warmup_distill.cli.memory import require_addresses
from warmup_distill.cli.options import (
    MOST,
    DTypeName,
    ExportTarget,
    MetricName,
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
)
from warmup_distill.cli.screen import say, say_json, show
from warmup_distill.errors import RunError
from warmup_distill.store.stopping import listening

app = typer.Typer(
    help="Make a student language model ready for its teacher before knowledge distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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


def _version(value: bool) -> None:
    if value:
        from warmup_distill import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Make a student language model ready for its teacher before knowledge distillation."""
    if context.invoked_subcommand not in ("score", "export"):
        require_addresses()


@app.command("run")
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


def _stage_command(stage: str) -> Callable[..., None]:
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


for _stage, _help in STAGE_HELP.items():
    if _stage != "evaluate":
        app.command(_stage, help=_help)(_stage_command(_stage))


@app.command("evaluate")
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
    set_: Overrides = None,
    output_dir: OutputDir = None,
    redo: Redo = False,
    workers: WorkersOption = None,
    ray_address: RayAddress = None,
) -> None:
    """Score every model of a run, or any model on the field's benchmarks."""
    require_fitting_options(
        suite,
        for_suites={"--limit": limit, "--data": data, "--max-new-tokens": max_new_tokens},
        for_stages={"--set": set_, "--redo": redo},
    )
    if suite is None:
        if Path(target).suffix not in (".yaml", ".yml"):
            raise RunError(
                f"expected a recipe (.yaml), got {target}. To evaluate a model or a run on the "
                "benchmarks of the field, add --suite NAMES."
            )
        _stage_command("evaluate")(Path(target), set_, output_dir, redo, workers, ray_address)
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
    question = replace(question, cluster=cluster_alone(workers, ray_address))
    with listening():
        if is_run(target):
            paths = evaluate_run(Path(target), question)
        else:
            slug = re.sub(r"[^A-Za-z0-9._-]+", "-", target).strip("-.")[:100] or "model"
            paths = evaluate_model(target, output_dir or Path("evaluations") / slug, question)
    show(suite_table(paths), width=max(Console().width, 100))  # numbers are never cut off
    say(f"\nResults: {paths[0].parent if not is_run(target) else Path(target) / 'suites'}")


@app.command("score")
def score_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Rows with `prediction` and `reference`, `references` or `answer`.",
        ),
    ],
    metric: Annotated[MetricName, typer.Option(help="How to score.")],
) -> None:
    """Score another program's predictions: a JSON line per row, then the mean, 0 to 100."""
    from dataclasses import asdict

    from warmup_distill.scoring.files import score_file
    from warmup_distill.scoring.statistics import estimate

    rows = list(score_file(file, metric.value))
    for row in rows:
        line = asdict(row)
        if row.extracted is None:
            del line["extracted"]
        say_json(line)
    summary = asdict(estimate([row.value for row in rows]))
    say_json({"metric": metric.value, "rows": len(rows)} | summary)


@app.command("plan")
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
    """Check what can be known before weights are loaded: faults, memory, disk, time."""
    from warmup_distill.planning.outlook import Trouble
    from warmup_distill.planning.page import plan
    from warmup_distill.recipe.reading import load_recipe

    compared = _numbers(workers)
    first = compared[0] if compared else None
    loaded = load_recipe(recipe, [*(set_ or []), *cluster_overrides(first, ray_address)])
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


@app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    to: Annotated[ExportTarget, typer.Option(help="The program that shall read the pairs.")],
) -> None:
    """Write the pairs of a run in another program's format."""
    from warmup_distill.exporting import export_pairs

    path, written, left_out = export_pairs(folder, to.value)
    say(f"{written} pairs written to {path}")
    if left_out:
        say(
            f"{left_out} pairs left out: a side was cut off, and {to.value} would teach the "
            "student to stop there; or a control token stands in the text, which it would not "
            "read as text."
        )


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
