"""What was tried: settings of a warm-up, and what its watch found on held-out prompts."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.training.watch import kept

TRIALS = "trials.json"
FEWEST = 4
"""Trials that must have come to a step before one may be given up there."""

State = Literal["complete", "given up", "led away", "failed"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One warm-up with settings of its own."""

    number: int
    settings: dict[str, float]
    """By their names in the recipe."""
    state: State
    history: list[dict[str, float]] = field(default_factory=list)
    """Examinations of the watch: `step`, `watch_mismatch`, `watch_kl`."""
    seconds: float = 0.0
    why: str | None = None
    """What it said, if it failed."""

    @property
    def kl(self) -> float:
        """KL(student ‖ teacher) per token of what was kept, nats; infinity if it failed."""
        return kept(self.history)["watch_kl"] if self.history else float("inf")

    @property
    def mismatch(self) -> float:
        """Share of samples that mismatch there; 1 if it failed."""
        return kept(self.history)["watch_mismatch"] if self.history else 1.0

    def nearest_by(self, step: int) -> float | None:
        """The smallest KL up to a step; None if it did not come so far."""
        known = [one["watch_kl"] for one in self.history if one["step"] <= step]
        return min(known) if known and self.history[-1]["step"] >= step else None


def read_trials(folder: Path) -> list[Trial]:
    """Those that have ended in an earlier start."""
    path = folder / TRIALS
    return [Trial(**one) for one in read_json(path)] if path.is_file() else []


def write_trials(folder: Path, trials: Sequence[Trial]) -> None:
    write_json(folder / TRIALS, [asdict(one) for one in trials])


def best(trials: Sequence[Trial]) -> Trial:
    """The one whose student came nearest to its teacher, the first of equal ones."""
    return min(trials, key=lambda one: (one.kl, one.mismatch))


def bounds(trials: Sequence[Trial]) -> Mapping[int, float]:
    """For each step the median of what trials had reached there: above it one is given up.

    Source: the median stopping rule, Golovin et al. 2017, Google Vizier, section 3.2.1.
    """
    steps = {int(one["step"]) for trial in trials for one in trial.history if one["step"] > 0}
    found: dict[int, float] = {}
    for step in sorted(steps):
        reached = [kl for trial in trials if (kl := trial.nearest_by(step)) is not None]
        if len(reached) >= FEWEST:
            found[step] = statistics.median(reached)
    return found


def as_table(trial: Trial) -> dict[str, Any]:
    """One row for people and programs."""
    return {
        "trial": trial.number,
        **trial.settings,
        "state": trial.state,
        "kl": trial.kl,
        "mismatch": trial.mismatch,
        "seconds": trial.seconds,
    }
