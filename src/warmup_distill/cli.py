"""The command line. Exit codes: 0 done, 2 the user's input is wrong, 1 anything else."""

import logging
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from warmup_distill.errors import RunError, WarmupDistillError

app = typer.Typer(
    help="Make a student language model ready for its teacher before knowledge distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe in YAML.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field: rollouts.num_samples=4"),
]
OutputDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Run directory; runs/<recipe name> if absent.")
]

STAGE_HELP = {
    "prompts": "Read the prompts and turn them into token ids.",
    "cut": "Make the student by keeping some of its layers, and heal it.",
    "rollouts": "Sample from the student; the teacher checks and continues.",
    "pairs": "Make preference pairs and filter them.",
    "warmup": "Align the student by preference optimization.",
    "distill": "Distil the teacher into the warmed-up student.",
    "control": "Distil the teacher into the student that was not warmed up.",
    "evaluate": "Score every model of the run.",
    "report": "Write the page that shows what happened.",
}


class ExportTarget(StrEnum):
    """Programs whose format `export` writes."""

    TRL = "trl"
    OPENRLHF = "openrlhf"
    LLAMA_FACTORY = "llama-factory"


@app.command("run")
def run_command(recipe: RecipePath, set_: Overrides = None, output_dir: OutputDir = None) -> None:
    """Run all stages; picks up where it stopped."""
    from warmup_distill.pipeline import run
    from warmup_distill.recipe import load_recipe

    folder = run(load_recipe(recipe, set_ or []), _run_directory(recipe, output_dir))
    _print_tables(folder)
    print(f"\nReport: {folder / 'report' / 'index.html'}")


def _stage_command(stage: str) -> Callable[..., None]:
    def command(recipe: RecipePath, set_: Overrides = None, output_dir: OutputDir = None) -> None:
        from warmup_distill.pipeline import run_stage, stages_of, start
        from warmup_distill.recipe import load_recipe

        loaded = load_recipe(recipe, set_ or [])
        if stage not in stages_of(loaded):
            raise RunError(f"the recipe {recipe} does not ask for the stage {stage}.")
        run_stage(start(loaded, _run_directory(recipe, output_dir)), stage)

    return command


for _stage, _help in STAGE_HELP.items():
    app.command(_stage, help=_help)(_stage_command(_stage))


@app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    to: Annotated[ExportTarget, typer.Option(help="The program that shall read the pairs.")],
) -> None:
    """Write the pairs of a run in another program's format."""
    from warmup_distill.exporting import export_pairs

    path, written, left_out = export_pairs(folder, to.value)
    print(f"{written} pairs written to {path}")
    if left_out:
        print(
            f"{left_out} pairs left out: a side was cut off, and {to.value} would teach the "
            "student to stop there."
        )


def main() -> None:
    """The console script."""
    _quiet_libraries()
    try:
        app()
    except WarmupDistillError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        raise SystemExit(130) from None


def _run_directory(recipe: Path, output_dir: Path | None) -> Path:
    if output_dir is None and recipe.name == "recipe.yaml":
        return recipe.parent  # the resolved recipe inside a run directory
    return output_dir or Path("runs") / recipe.stem


def _quiet_libraries() -> None:
    """Our own progress and messages, without the bars and hints of the libraries below."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("warmup_distill").setLevel(logging.INFO)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _print_tables(folder: Path) -> None:
    from warmup_distill.page.terminal import render_tables

    for table in render_tables(folder):
        Console(markup=False).print(table)
