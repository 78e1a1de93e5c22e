"""What a search leaves: the recipe with the best settings, and a table of all trials."""

import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from warmup_distill.errors import RunError
from warmup_distill.figures.chart import Caption, Chart
from warmup_distill.figures.curves import lines
from warmup_distill.figures.data import Series
from warmup_distill.foreign.reading import read_text
from warmup_distill.recipe.reading import MOST_CHARACTERS, put
from warmup_distill.store.artifacts import write_bytes, write_text
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
    if not math.isfinite(chosen.kl):
        return
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


def write_shown(folder: Path, trials: Sequence[Trial]) -> None:
    """Write a line of CSV for each trial, and the figure."""
    rows = [as_table(one) for one in trials]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "trials.csv", text.getvalue())
    if len(known := [one for one in trials if math.isfinite(one.kl)]) > 1:
        for name, content in _chart(known).files():
            write_bytes(folder / name, content)


def _chart(trials: Sequence[Trial]) -> Chart:
    """How near to the teacher each trial came, and the best of all until then."""
    ends = [(float(one.number), one.kl) for one in trials]
    least = itertools.accumulate(ends, lambda before, one: (one[0], min(before[1], one[1])))
    caption = Caption(
        name="search",
        title="How near to its teacher each trial brought the student",
        summary=f"KL(student ‖ teacher) on held-out prompts of {len(trials)} trials; the best has "
        f"{best(trials).kl:.4f} nats per token.",
    )
    return lines(
        [Series(name="best so far", points=[*least]),
         Series(name="trial", points=ends, dashed=True)],
        caption,
        x_label="trial",
        y_label="KL(student ‖ teacher) (nats per token)",
        whole=True,
    )  # fmt: skip


def _came(trials: Sequence[Trial]) -> str:
    first = next((one.history[0] for one in trials if one.history), None)
    if first is None:
        return "not known, for every trial failed"
    return f"{first['watch_kl']:.4f} and {first['watch_mismatch']:.1%}"
