"""What one completion, one pair and one row cost: a few seconds of the real work, where it is done.

The only step that loads weights.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import SaveStrategy

from warmup_distill.cluster.choosing import place_of
from warmup_distill.cluster.places import NOBODY, Meter
from warmup_distill.engines.fitting import Texts, choose_for
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.cutting import cut_layers
from warmup_distill.models.holding import Held
from warmup_distill.models.loading import load_model
from warmup_distill.planning.costs import Costs, Lengths
from warmup_distill.planning.estimates import row_tokens
from warmup_distill.planning.facts import Facts
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.training import TrainSection
from warmup_distill.records import Prompt, Rollout, Sample
from warmup_distill.stages.pairing import select_pairs
from warmup_distill.stages.rollouts import roll_out
from warmup_distill.stages.session import Session
from warmup_distill.store.environment import device_memory
from warmup_distill.store.stopping import leave_if_asked
from warmup_distill.training.base import GloballyNormalizedTrainer
from warmup_distill.training.data import completion_rows, corrected, reference_rows
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.fit import training_arguments
from warmup_distill.training.warmup import WarmupTrainer

ENOUGH = 3.0
"""Seconds of rollouts that say enough of all of them."""
STEPS = 3
"""Optimizer steps of each training; the first is not counted, for it sets things up."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found of the rows that were tried."""

    costs: Costs
    """Seconds."""
    lengths: Lengths
    """In the mean."""
    device: str
    """That it was measured on."""


def measure(recipe: Recipe, folder: Path, facts: Facts) -> Measured:
    """Roll out some prompts and train a few steps on what they give; then distil a few.

    In this process, or on one of the workers that the recipe names.
    """
    with place_of(recipe.cluster) as place:
        ((_, found),) = place.compute(_Measuring(recipe, folder), [facts], NOBODY)
    return found


@dataclass(frozen=True)
class _Measuring:
    """A task: a few seconds of everything."""

    recipe: Recipe
    folder: Path

    def __call__(self, item: Facts, held: Held, meter: Meter) -> Measured:
        return _measured(Session(self.folder, self.recipe), item)


def _measured(session: Session, facts: Facts) -> Measured:
    assert facts.data and facts.teacher and facts.student
    prompts = facts.data.prompts[: session.recipe.rollouts.limit]
    some, rollouts, drawing, seconds = _roll_out(session, prompts)
    pairs = _pairs(session, some, rollouts)
    rows = _rows(session, facts.data.prompts, some, rollouts)
    drawn = drawing / len(rollouts)
    costs = Costs(
        drawing=drawn,
        checking=(seconds - drawing) / len(rollouts),
        teaching=drawn * facts.teacher.parameters / facts.student.parameters,
        pair=_warm_up(session, pairs) if pairs else 0.0,
        row=_distill(session, rows),
        pairs_per_prompt=len(pairs) / len(some),
    )
    lengths = _lengths(session, some, rollouts, pairs, rows)
    return Measured(costs=costs, lengths=lengths, device=device_memory()[0])


def _lengths(
    session: Session, prompts: Sequence[Prompt], rollouts: Sequence[Rollout],
    pairs: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]],
) -> Lengths:  # fmt: skip
    def mean(rows: Sequence[dict[str, Any]], *columns: str) -> float:
        return sum(len(row[name]) for row in rows for name in columns) / max(1, len(rows))

    found = [vars(rollout) for rollout in rollouts]
    continued = [one for one in found if one["continuation_ids"]]
    shared = sum(pair["mismatch_index"] for pair in pairs) / max(1, len(pairs))  # it is run once
    return Lengths(
        prompt=mean([vars(prompt) for prompt in prompts], "prompt_ids"),
        samples=session.recipe.rollouts.num_samples,
        completion=mean(found, "completion_ids"),
        continuation=mean(continued, "continuation_ids") * len(continued) / len(found),
        pair=mean(pairs, "prompt_ids", "chosen_ids", "rejected_ids") - shared,
        row=mean(rows, "prompt_ids", "completion_ids"),
        pairs_per_prompt=len(pairs) / len(prompts),
    )


def _roll_out(
    session: Session, prompts: Sequence[Prompt]
) -> tuple[Sequence[Prompt], list[Rollout], float, float]:
    """Some prompts, their rollouts, seconds to draw them, and seconds in all.

    Four times as many prompts each time, since few of them say little of full batches.
    """
    recipe, settings, count = session.recipe, session.recipe.rollouts, 4
    models, ids = (_student(session), session.teacher), [one.prompt_ids for one in prompts]
    texts = Texts.of(ids, settings.max_new_tokens, settings.num_samples)
    engine = Stopwatch(
        *models, session.vocabulary, choose_for(models, settings.batch_tokens, texts).tokens
    )
    while True:
        engine.drawing, began = 0.0, time.perf_counter()
        some = _spread(prompts, count)
        rollouts = roll_out(engine, some, recipe.rollouts, recipe.seed)
        seconds = time.perf_counter() - began
        leave_if_asked()
        if seconds > ENOUGH or count >= len(prompts):
            return some, rollouts, engine.drawing, seconds
        count *= 4


class Stopwatch(TransformersEngine):
    """An engine that knows how long it has been drawing."""

    drawing = 0.0

    def sample(self, *arguments: Any, **named: Any) -> list[list[Sample]]:
        """See `Engine.sample`."""
        began = time.perf_counter()
        found = super().sample(*arguments, **named)
        self.drawing += time.perf_counter() - began
        return found


def _spread(prompts: Sequence[Prompt], count: int) -> Sequence[Prompt]:
    """So many of them, at equal distances."""
    return prompts[:: max(1, len(prompts) // count)][:count]


def _pairs(
    session: Session, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]
) -> list[dict[str, Any]]:
    """Rows of the warm-up; a reward model, which would drop some, is not asked."""
    known = {prompt.prompt_id: prompt for prompt in prompts}
    settings = session.recipe.pairs.model_copy(update={"reward_model": None})
    pairs, _ = select_pairs(rollouts, known, session.tokenizer, settings)
    return [vars(pair) | {"prefix_ref_logprob": 0.0} for pair in pairs]


def _warm_up(session: Session, pairs: list[dict[str, Any]]) -> float:
    section = session.recipe.warmup
    return _seconds_per_row(
        WarmupTrainer, session, section, pairs,
        beta=section.beta, loss=section.loss, nll_weight=section.nll_weight,
        options=section.loss_options(), row_tokens=row_tokens(section),
    )  # fmt: skip


def _rows(
    session: Session, prompts: Sequence[Prompt], rolled: Sequence[Prompt],
    rollouts: Sequence[Rollout],
) -> list[dict[str, Any]]:  # fmt: skip
    """References to distil on, or where the recipe draws completions, those just drawn."""
    section = session.recipe.distill
    if section.completions.source == "rollouts":
        found, _ = corrected(rolled, rollouts, session.tokenizer, right=False)
        return completion_rows(rolled, found, section.max_length)
    if section.completions.source == "teacher" or section.completions.student_share == 1:
        drawn = {one.prompt_id: [one.completion_ids] for one in rollouts}
        return completion_rows(rolled, drawn, section.max_length)
    some = _spread(prompts, STEPS * section.per_device_train_batch_size)
    return reference_rows(some, session.renderer, section.max_length)


def _distill(session: Session, rows: list[dict[str, Any]]) -> float:
    section = session.recipe.distill
    return _seconds_per_row(
        DistillTrainer, session, section, rows,
        teacher=None if section.objective == "sft" else session.teacher,
        objective=section.objective, options=section.options.given(),
        cross_entropy_weight=section.cross_entropy_weight, temperature=section.temperature,
        row_tokens=row_tokens(section),
    )  # fmt: skip


def _seconds_per_row(
    trainer_type: type[GloballyNormalizedTrainer], session: Session, section: TrainSection,
    rows: list[dict[str, Any]], **named: Any,
) -> float:  # fmt: skip
    batch = min(section.per_device_train_batch_size, len(rows))
    rows = rows[: len(rows) // batch * batch]  # whole batches
    few = section.model_copy(
        update={"max_steps": STEPS, "per_device_train_batch_size": batch,
                "gradient_accumulation_steps": 1, "lora": None}
    )  # fmt: skip
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        autocast = session.recipe.dtype == "bfloat16"
        arguments = training_arguments(few, len(rows), session.recipe.seed, autocast, scratch)
        arguments.save_strategy = SaveStrategy.NO
        arguments.disable_tqdm = True
        trainer = trainer_type(
            model=_student(session),
            vocabulary=session.vocabulary,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            callbacks=[clock],
            **named,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    leave_if_asked()
    return (clock.ends[-1] - clock.ends[0]) / ((STEPS - 1) * batch)


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def _student(session: Session) -> PreTrainedModel:
    """The student as it will be when the rollouts begin, but for the healing of a cut one."""
    model, cut = load_model(session.recipe.student), session.recipe.cut
    return cut_layers(model, cut.keep_layers) if cut else model
