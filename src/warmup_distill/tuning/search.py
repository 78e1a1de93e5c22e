"""Searching: Optuna proposes, a warm-up is run, and its watch judges it on held-out prompts.

    DIR/
      base/             prompts, rollouts and pairs, made once
      trials/<number>/  a run directory up to the warm-up, which shares them
      trials.json       what was tried, and what came out
      trials.csv, search.svg, .pdf, .csv    the same for people, written anew after each trial

What is proposed next follows from the seed, the number of the trial and the trials before it, so a
search that was interrupted goes on as if nothing had happened.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.cluster.choosing import place_of
from warmup_distill.cluster.places import Place
from warmup_distill.errors import NumbersError, RecipeError, RunError, WarmupDistillError
from warmup_distill.pipeline import opened, run_stage, stages_of
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import load_recipe, override, put, read_values, validate
from warmup_distill.records import Pair, Prompt
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_json, read_parts
from warmup_distill.store.claiming import claim
from warmup_distill.store.fingerprints import meaning
from warmup_distill.store.locking import locked
from warmup_distill.store.manifest import Manifest
from warmup_distill.training.watch import hold_out
from warmup_distill.tuning.trials import State, Trial, best, bounds, read_trials, write_trials
from warmup_distill.tuning.writing import tuned_path, write_shown, write_tuned

logger = logging.getLogger(__name__)

BASE, ONES, MARKER = "base", "trials", "search.json"
RANDOM = 8
"""Trials before the sampler begins to learn from them."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When the search ends: after so many trials, or seconds since the pairs were made."""

    trials: int
    seconds: float = math.inf


def tune(path: Path, overrides: Sequence[str], folder: Path, budget: Budget) -> Path:
    """Search from a recipe's file; returns the path of the recipe with the best settings.

    Args:
        overrides: as of `load_recipe`.
        folder: of the search; it goes on with the trials that are there.

    Raises:
        WarmupDistillError: as of `search`; or the folder, or the file beside the recipe, is not
            of a search.
    """
    values, recipe = read_values(path, "a recipe"), load_recipe(path, overrides)
    override(values, overrides)
    target = tuned_path(path)
    with locked(folder), place_of(recipe.cluster) as place:
        claim(folder, MARKER, {"the search": meaning(recipe)})
        for trials in search(recipe, folder, place, budget):
            write_shown(folder, trials)
            write_tuned(target, values, trials)
    if not math.isfinite(best(trials).kl):
        raise RunError(
            f"all {len(trials)} trials failed, the last one with: {trials[-1].why} Their run "
            f"directories are in {folder / ONES}."
        )
    return target


def space(recipe: Recipe) -> dict[str, tuple[float, float]]:
    """What is searched, by its name in the recipe, with its ends; all on a logarithmic scale."""
    rate = recipe.warmup.learning_rate
    return {
        "warmup.beta": (0.05, 10.0),
        "warmup.learning_rate": (rate / 300, min(1.0, rate * 10)),
        "warmup.num_train_epochs": (0.25, 2.0),
    }


def search(recipe: Recipe, folder: Path, place: Place, budget: Budget) -> Iterator[list[Trial]]:
    """Try settings until the budget is spent; gives out all trials whenever there is one more.

    Those of an earlier start count.

    Args:
        folder: of the search, which is held.

    Raises:
        RecipeError: the recipe leaves nothing to judge by, or Optuna is not installed.
        RunError: there are no pairs to warm up on.
        Stopped: a signal asked for it.
    """
    _require_watch(recipe)
    optuna = _optuna()
    with opened(recipe, folder / BASE, place=place) as session:
        for stage in stages_of(recipe)[: stages_of(recipe).index("pairs") + 1]:
            run_stage(session, stage)
        _require_something_to_learn(session)
    began = time.monotonic()
    trials = read_trials(folder)
    if trials:
        yield trials
    while len(trials) < budget.trials and time.monotonic() - began < budget.seconds:
        settings = _propose(optuna, recipe, trials)
        trials.append(_try(recipe, settings, folder, place, trials))
        write_trials(folder, trials)
        leader = best(trials)
        logger.info(
            "trial %d: KL %.4f, %s; best is trial %d with %.4f",
            trials[-1].number, trials[-1].kl, trials[-1].state, leader.number, leader.kl,
        )  # fmt: skip
        yield trials


def _require_something_to_learn(session: Session) -> None:
    """Raise a RunError where no pair, or no prompt that is held out, would be there."""
    recipe, folder = session.recipe, session.folder
    prompts = list(read_parts(folder / "prompts", Prompt))
    held_out = {
        one.prompt_id for one in hold_out(recipe.warmup.watch, prompts, recipe.rollouts.limit)
    }
    pairs = [one for one in read_parts(folder / "pairs", Pair) if one.prompt_id not in held_out]
    if not pairs:
        raise RunError(f"{folder} has no pairs to warm up on, so there is nothing to search for.")
    if not held_out:
        raise RunError(
            f"{folder} has too few prompts to hold one out for the watch. Take ten or more, or set "
            "rollouts.limit below their number."
        )


def _propose(optuna: Any, recipe: Recipe, trials: Sequence[Trial]) -> dict[str, float]:
    """The next settings: first the recipe's own, then what the sampler makes of all before."""
    ends = space(recipe)
    if not trials:
        return {name: float(_value(recipe, name)) for name in ends}
    over = {name: optuna.distributions.FloatDistribution(*one, log=True)
            for name, one in ends.items()}  # fmt: skip
    sampler = optuna.samplers.TPESampler(
        seed=(recipe.seed * 1_000_003 + len(trials)) % 2**32,
        n_startup_trials=RANDOM,
        multivariate=True,
    )
    study = optuna.create_study(sampler=sampler)
    for one in trials:
        inside = {n: min(max(v, ends[n][0]), ends[n][1]) for n, v in one.settings.items()}
        value = one.kl if math.isfinite(one.kl) else _worst(trials)
        study.add_trial(optuna.trial.create_trial(params=inside, distributions=over, value=value))
    found: dict[str, float] = study.ask(over).params
    return {name: float(f"{value:.3g}") for name, value in found.items()}


def _worst(trials: Sequence[Trial]) -> float:
    """What a trial that failed counts as: no better than any that did not."""
    return max((one.kl for one in trials if math.isfinite(one.kl)), default=1e9)


def _try(
    recipe: Recipe, settings: dict[str, float], folder: Path, place: Place, before: Sequence[Trial]
) -> Trial:
    """Run one warm-up; one that fails is a trial too."""
    number, began = len(before), time.monotonic()
    where = folder / ONES / f"{number:04d}"
    try:
        counts = _warm_up(with_settings(recipe, settings), where, folder / BASE, place, before)
    except (WarmupDistillError, NumbersError) as error:
        seconds = round(time.monotonic() - began, 1)
        return Trial(
            number=number, settings=settings, state="failed", seconds=seconds, why=str(error)
        )
    return Trial(
        number=number,
        settings=settings,
        state=_state(counts),
        history=read_json(where / "warmup" / "watch.json"),
        seconds=round(time.monotonic() - began, 1),
    )


def _warm_up(
    recipe: Recipe, where: Path, base: Path, place: Place, before: Sequence[Trial]
) -> dict[str, Any]:
    """The counts of the warm-up, whose folder shares what comes before it."""
    stages = stages_of(recipe)
    with opened(recipe, where, place=place, others=[base], bounds=bounds(before)) as session:
        for stage in stages[: stages.index("warmup") + 1]:
            run_stage(session, stage)
    counts: dict[str, Any] = Manifest(where).entries["warmup"]["counts"]
    return counts


def _state(counts: dict[str, Any]) -> State:
    if counts.get("given_up"):
        return "given up"
    return "led away" if counts["stopped"] else "complete"


def with_settings(recipe: Recipe, settings: dict[str, float]) -> Recipe:
    """The recipe with other values of some fields."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    for name, value in settings.items():
        put(values, name, value, name)
    return validate(values, "a trial")


def _value(recipe: Recipe, name: str) -> Any:
    found: Any = recipe
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _require_watch(recipe: Recipe) -> None:
    if not recipe.warmup.watch.prompts:
        raise RecipeError(
            "warmup.watch.prompts is 0, and a search is judged by what the watch finds on prompts "
            "that are held out. Set it to 64 or more."
        )
    if recipe.warmup.max_steps is not None:
        raise RecipeError(
            "warmup.max_steps is set, and the search tries warmup.num_train_epochs, which it "
            "overrides. Leave max_steps out."
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise RecipeError(
            "`tune` needs Optuna, which is not installed. Install it with: "
            "pip install 'warmup-distill[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
