"""All commands by their names, in the order of `--help`."""

from typing import Annotated

import typer

from warmup_distill.cli.commands import (
    STAGE_HELP,
    evaluate_command,
    plan_command,
    run_command,
    stage_command,
)
from warmup_distill.cli.exchange import export_command, score_command
from warmup_distill.cli.experiments import study_command, tune_command
from warmup_distill.cli.memory import require_addresses

app = typer.Typer(
    help="Make a student language model ready for its teacher before knowledge distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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


app.command("run")(run_command)
for _stage, _help in STAGE_HELP.items():
    if _stage == "evaluate":
        app.command("evaluate")(evaluate_command)
    else:
        app.command(_stage, help=_help)(stage_command(_stage))
app.command("study")(study_command)
app.command("tune")(tune_command)
app.command("score")(score_command)
app.command("plan")(plan_command)
app.command("export")(export_command)
