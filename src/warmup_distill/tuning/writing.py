"""What a search leaves: the recipe with the best settings, and a table of all trials."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from warmup_distill.errors import RunError
from warmup_distill.foreign.reading import read_text
from warmup_distill.recipe.reading import MOST_CHARACTERS, put
from warmup_distill.store.artifacts import write_text
from warmup_distill.tuning.trials import Trial, as_table, best

HEAD = "# Settings found by `warmup-distill tune`"


def tuned_path(recipe: Path) -> Path:
    """Where the recipe with the best settings goes.

    Raises:
        RunError: a file is there that no search has written.
    """
    path = recipe.with_name(f"{recipe.stem}.tuned.yaml")
    if path.exists():
        what = f"{path} is in the way, and cannot be read"
        if not read_text(path, RunError, what, most=MOST_CHARACTERS).startswith(HEAD):
            raise RunError(
                f"{path} is in the way: the recipe with the best settings goes there, and no "
                "search has written what is there. Move it away."
            )
    return path


def write_tuned(path: Path, values: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    """Write a recipe's values with the best settings, and where these come from."""
    chosen, found = best(trials), dict(values)
    for name, value in chosen.settings.items():
        put(found, name, value, name)
    lines = [
        f"{HEAD}: trial {chosen.number} of {len(trials)}.",
        f"# On held-out prompts KL(student ‖ teacher) is {chosen.kl:.4f} nats per token and "
        f"{chosen.mismatch:.1%} of the samples mismatch;",
        f"# the student as it came: {_came(trials)}.",
        yaml.safe_dump(found, sort_keys=False, allow_unicode=True),
    ]
    write_text(path, "\n".join(lines))


def write_table(path: Path, trials: Sequence[Trial]) -> None:
    """Write a line of CSV for each trial."""
    rows = [as_table(one) for one in trials]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _came(trials: Sequence[Trial]) -> str:
    first = next((one.history[0] for one in trials if one.history), None)
    if first is None:
        return "not known, for every trial failed"
    return f"{first['watch_kl']:.4f} and {first['watch_mismatch']:.1%}"
