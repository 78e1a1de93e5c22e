"""warmup: pairs → a student aligned to its teacher by preference optimization."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from warmup_distill.cluster.places import StepMeter
from warmup_distill.engines.fitting import Texts
from warmup_distill.engines.progress import StepProgress
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.loading import load_model
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.stages.charging import charge_training
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_parts
from warmup_distill.training.fit import fit, scratch_of
from warmup_distill.training.warmup import COLUMNS, WarmupTrainer, needs_prefix
from warmup_distill.training.watch import Watched, hold_out

USES = ["rollouts"]
"""The stages that a warm-up goes on from, as the ledger counts them."""


def train_warmup(session: Session) -> dict[str, int]:
    """Write warmup/ and return the counts; without pairs it is the student unchanged."""
    recipe, folder = session.recipe, session.folder / "warmup"
    prompts = list(read_parts(session.folder / "prompts", Prompt))
    held_out = hold_out(recipe.warmup.watch, prompts, recipe.rollouts.limit)
    rows = _rows(session, {prompt.prompt_id for prompt in held_out})
    if not rows:
        session.save(load_model(session.student_name), "warmup")
        session.charge("warmup", [], USES)
        return {"rows": 0, "steps": 0}
    others = [session.teacher_ref] if held_out else []
    align = partial(
        _align,
        start=session.student_name,
        teacher=session.teacher_ref,
        watching=_watching(session, held_out) if held_out else None,
        rows=rows,
        section=recipe.warmup,
        folder=folder.absolute(),
        seed=recipe.seed,
        tokenizer=session.tokenizer,
        autocast=recipe.dtype == "bfloat16",
        saved_dtype=session.saved_dtype,
        origin=session.origin("warmup", session.student_name),
        vocabulary=session.vocabulary,
        beta=recipe.warmup.beta,
        loss=recipe.warmup.loss,
        nll_weight=recipe.warmup.nll_weight,
        options=recipe.warmup.loss_options(),
        row_tokens=session.row_tokens("warmup", recipe.warmup, session.student_name, others),
    )
    with StepProgress("warmup") as progress:
        counts = session.place.train(align, scratch_of(folder), progress)
    counts = charge_training(session, "warmup", counts, USES)
    return counts | {"held_out_prompts": len(held_out)}


def _align(
    held: Held,
    meter: StepMeter,
    *,
    start: str,
    teacher: ModelRef,
    watching: dict[str, Any] | None,
    **arguments: Any,
) -> dict[str, Any]:
    """The body of the training, in every process that takes part."""
    loaded = held.take(*([teacher] if watching else []))  # what the rollouts held goes
    watched = Watched(teacher=loaded[0], **watching) if watching else None
    return fit(WarmupTrainer, load_model(start), watched=watched, meter=meter, **arguments)


def _watching(session: Session, held_out: Sequence[Prompt]) -> dict[str, Any]:
    """What the warm-up is watched with, but for the teacher."""
    recipe = session.recipe
    settings = recipe.rollouts
    models = session.ref(session.student_name), session.teacher_ref
    texts = Texts.of([prompt.prompt_ids for prompt in held_out], settings.max_new_tokens)
    batching = session.batching("warmup", settings.batch_tokens, models, texts)
    return {
        "section": recipe.warmup.watch,
        "prompts": held_out,
        "margin_threshold": settings.margin_threshold,
        "max_new_tokens": settings.max_new_tokens,
        "batch_tokens": batching.chosen.tokens,
        "seed": recipe.seed,
        "bounds": session.bounds,
    }


def _rows(session: Session, held_out: set[str]) -> list[dict[str, Any]]:
    """The pairs of all other prompts, as the trainer reads them."""
    pairs = [
        pair
        for pair in read_parts(session.folder / "pairs", Pair)
        if pair.prompt_id not in held_out
    ]
    rows: list[dict[str, Any]] = [
        {name: getattr(pair, name) for name in COLUMNS} | {"row": number}
        for number, pair in enumerate(pairs)
    ]
    if needs_prefix(session.recipe.warmup.loss, session.recipe.warmup.nll_weight):
        shared = {
            (rollout.prompt_id, rollout.sample_index): sum(
                rollout.student_logprobs[: rollout.mismatch_index]
            )
            for rollout in read_parts(session.folder / "rollouts", Rollout)
        }
        for row, pair in zip(rows, pairs, strict=True):
            row["prefix_ref_logprob"] = shared[pair.prompt_id, pair.sample_index]
    return rows
