"""The order of the stages, and how a run picks up where it stopped."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from warmup_distill.cluster.choosing import place_of
from warmup_distill.cluster.places import Place
from warmup_distill.data.prompting import read_prompts
from warmup_distill.engines.choosing import require_engine
from warmup_distill.errors import ModelError, RunError
from warmup_distill.models.cutting import require_layers
from warmup_distill.models.loading import load_config
from warmup_distill.recipe import Recipe, controls
from warmup_distill.recipe.batches import require_shares
from warmup_distill.recipe.given import given_recipe
from warmup_distill.stages.controls import (
    distill_cold_started,
    distill_control,
    distill_corrected,
    distill_for_longer,
    start_cold,
)
from warmup_distill.stages.distill import cut_student, distill_warmed_up
from warmup_distill.stages.evaluate import evaluate_models, read_benchmark
from warmup_distill.stages.models_ahead import require_models
from warmup_distill.stages.pairs import write_pairs
from warmup_distill.stages.prompts import write_prompts
from warmup_distill.stages.report import make_report
from warmup_distill.stages.rollouts import write_rollouts
from warmup_distill.stages.rows_ahead import require_rows
from warmup_distill.stages.session import Session
from warmup_distill.stages.warmup import train_warmup
from warmup_distill.store.leaves import RECIPE
from warmup_distill.store.locking import locked
from warmup_distill.store.manifest import Manifest
from warmup_distill.store.opening import open_run, require_run
from warmup_distill.store.sharing import lend_parts, take_over
from warmup_distill.store.stopping import leave_if_asked
from warmup_distill.store.writing import in_words
from warmup_distill.training.asked import require_sharding

logger = logging.getLogger(__name__)

Stage = Callable[[Session], dict[str, Any]]

STAGES: dict[str, Stage] = {
    "prompts": write_prompts,
    "cut": cut_student,
    "rollouts": write_rollouts,
    "pairs": write_pairs,
    "warmup": train_warmup,
    "distill": distill_warmed_up,
    "control": distill_control,
    "control_compute": distill_for_longer,
    "cold_start": start_cold,
    "control_cold_start": distill_cold_started,
    "control_corrected": distill_corrected,
    "evaluate": evaluate_models,
    "report": lambda session: make_report(session.folder, session.recipe, session.tokenizer),
}
"""In their order. `cut` and the controls are there only if the recipe asks for them."""


def stages_of(recipe: Recipe) -> list[str]:
    """The stages of a run of this recipe, in order."""
    optional = {"cut", *controls.stages_of(tuple(controls.STAGES))}
    asked = {*controls.stages_of(recipe.controls)} | ({"cut"} if recipe.cut else set())
    return [stage for stage in STAGES if stage not in optional - asked]


def run(
    recipe: Recipe | Mapping[str, Any] | str | Path, folder: str | Path, *, redo: bool = False
) -> Path:
    """Run all stages that are not complete yet and return the run directory.

    Args:
        recipe: what `load_recipe` returned, its values as a dict, or the path of its file.
        redo: where the recipe has changed, do again what depends on it.

    Raises:
        WarmupDistillError: the recipe, its data or its models are wrong; or the folder belongs to
            another recipe. Everything that can be checked is checked before anything is written.
    """
    folder, whole = Path(folder), given_recipe(recipe)
    with opened(whole, folder, redo=redo) as session:
        for stage in stages_of(whole):
            run_stage(session, stage)
    return folder


@contextlib.contextmanager
def opened(
    recipe: Recipe,
    folder: Path,
    *,
    redo: bool = False,
    stage: str | None = None,
    place: Place | None = None,
    others: Sequence[Path] = (),
    bounds: Mapping[int, float] | None = None,
) -> Iterator[Session]:
    """Check what can be checked, then hold the run directory for this process alone.

    Args:
        redo: do again what depends on a change.
        stage: the only stage that will be run, so that those before it must be as they should.
        place: where parts are computed, which stays open; the recipe's own if absent.
        others: run directories whose stages this one takes over where they are the same.
        bounds: see `training.watch.Watched`.

    Raises:
        WarmupDistillError: something is wrong; nothing was written or removed.
    """
    if recipe.cluster:
        require_shares(recipe, recipe.cluster.num_workers, stage)
    require_sharding(recipe, stage)
    with contextlib.nullcontext(place) if place else place_of(recipe.cluster) as at:
        session = Session(folder, recipe, at, others, bounds)
        require_folder(folder)
        if redo or not (folder / RECIPE).exists():
            preflight(session)
        order = stages_of(recipe)
        stages = order[: order.index(stage) + 1] if stage else order
        known = session.fingerprints, session.contents
        with locked(folder):
            open_run(folder, recipe, *known, redo=redo, stages=stages, alone=stage is not None)
            yield session


def preflight(session: Session) -> None:
    """Find what is wrong with models, tokenizers and data before anything is written."""
    recipe = session.recipe
    require_engine(recipe.rollouts.engine)
    require_models(recipe)
    session.require_one_vocabulary()
    _require_prompts(session)
    for benchmark in recipe.evaluate.benchmarks:
        read_benchmark(session, benchmark)
    require_fitting(session)


def require_folder(folder: Path) -> None:
    """Raise a RunError if a run directory cannot be here, or something else is."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        raise RunError(f"{str(folder)!r} is no UTF-8. Name another folder.") from None
    with in_words(folder):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise RunError(f"expected a folder at {there}, but it is a file. Name another one.")
        if not os.access(there, os.W_OK):
            raise RunError(f"{there} cannot be written to. Name another folder.")
        require_run(folder)


def require_fitting(session: Session) -> None:
    """What the recipe asks of the models beyond their files.

    Raises:
        ModelError: a layer to keep does not exist, drawn completions do not fit, or references
            have no end.
    """
    recipe, context = session.recipe, session.context
    for name, section in (("distill", recipe.distill), ("cut", recipe.cut)):
        if section and section.completions.source == "references":
            session.renderer.reference("")  # which says so if nothing ends it
        longest = section.completions.max_new_tokens if section else None
        if longest is not None and longest >= context:
            raise ModelError(
                f"{name}.completions.max_new_tokens is {longest}, but the models read {context} "
                "tokens, prompt included. Lower it."
            )
    if recipe.cut:
        layers = load_config(recipe.student).get_text_config().num_hidden_layers
        require_layers(recipe.cut.keep_layers, layers)


def _require_prompts(session: Session) -> None:
    recipe = session.recipe
    prompts, _ = read_prompts(
        recipe.prompts,
        session.renderer,
        context=session.context,
        max_new_tokens=recipe.rollouts.max_new_tokens,
    )
    require_rows(session, prompts)


def run_stage(session: Session, stage: str) -> None:
    """Run one stage unless it is complete; the stages before it must be.

    Raises:
        RunError: a stage before it is missing.
    """
    manifest = Manifest(session.folder)
    if manifest.complete(stage):
        logger.info("%s: already complete", stage)
        return
    order = stages_of(session.recipe)
    for before in order[: order.index(stage)]:
        if not manifest.complete(before):
            raise RunError(
                f"{stage} needs the stage {before}, which {session.folder} does not have yet. "
                f"Run `warmup-distill {before} RECIPE` first, or all with `warmup-distill run`."
            )
    if came := _take_over(session, stage):
        logger.info("%s: that of %s", stage, came)
        return
    manifest.begin(stage, session.fingerprints[stage])
    began = time.perf_counter()
    try:
        counts = STAGES[stage](session)
    except Exception as error:
        manifest.require_there(error)
        raise
    manifest.require_there()
    manifest.record(stage, session.fingerprints[stage], time.perf_counter() - began, counts)
    logger.info("%s: %s", stage, describe(stage, counts))
    leave_if_asked()


def _take_over(session: Session, stage: str) -> Path | None:
    """The other run that a stage was taken over from; samples alone where no more is the same."""
    folder, others = session.folder, session.others
    state = Manifest(folder).entries.get(stage, {}).get("state", "stale")
    if stage == "report" or state != "stale":
        return None
    came = take_over(folder, stage, session.fingerprints[stage], others)
    if came is None and stage == "rollouts":
        lend_parts(folder, stage, others)
    return came


def describe(stage: str, counts: dict[str, Any]) -> str:
    """One line about what a stage did."""
    if stage == "pairs" and counts["pairs"] == 0:
        if counts["mismatching"] == 0:
            return (
                f"no pairs: in none of {counts['rollouts']} completions does the student hold a "
                "token likelier than the teacher by more than the threshold. There is nothing to "
                "warm up; the student goes on to distillation as it is."
            )
        return (
            f"no pairs: the filters dropped all {counts['mismatching']} of them. The student goes "
            "on to distillation as it is; loosen the section `pairs` to warm it up."
        )
    return ", ".join(
        f"{value:,} {name.replace('_', ' ')}"
        for name, value in counts.items()
        if isinstance(value, int)
    )
