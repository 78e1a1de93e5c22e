"""A few seconds of the real work, scaled to all of it. The only step that loads weights."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models import cut_layers, load_model
from warmup_distill.planning.estimates import Tokens
from warmup_distill.planning.facts import Facts
from warmup_distill.records import Prompt
from warmup_distill.session import Session
from warmup_distill.stages.rollouts import roll_out
from warmup_distill.training.data import prompt_rows, reference_rows
from warmup_distill.training.distill import DistillTrainer

FEW_PROMPTS, FEW_STEPS = 32, 2

Result = TypeVar("Result")


def measure(session: Session, facts: Facts, counted: Tokens) -> dict[str, float]:
    """Seconds of each stage that runs a model, at the most: samples that end early cost less."""
    assert facts.data
    some = list(facts.data.prompts[:FEW_PROMPTS])
    rolling, sampled = _roll_out(session, some)
    per_trained = _train(session, some)
    settings = session.recipe
    # A pair is about one sample, its continuation and its share of the prompt, in one pass.
    pair_tokens = 2 * counted.sampled * (settings.warmup.num_train_epochs or 1)
    distilling = per_trained * counted.distilled
    found = {
        "rollouts": rolling * counted.sampled / sampled,
        "warmup": per_trained * pair_tokens,
        "cut": per_trained * _healed(session, counted) if settings.cut else 0.0,
        "distill": distilling,
        "control": distilling if settings.control else 0.0,
        "evaluate": rolling * counted.evaluated / sampled,
    }
    return {stage: seconds for stage, seconds in found.items() if seconds}


def _healed(session: Session, counted: Tokens) -> float:
    """Tokens of the healing: those of an epoch of the distillation, as often as it goes."""
    cut, distill = session.recipe.cut, session.recipe.distill
    assert cut is not None
    return counted.distilled / (distill.num_train_epochs or 1) * cut.num_train_epochs * cut.heal


def _roll_out(session: Session, prompts: list[Prompt]) -> tuple[float, int]:
    """Seconds of the rollouts of some prompts, and how many tokens were sampled."""
    settings = session.recipe.rollouts
    engine = TransformersEngine(
        _student(session), session.teacher, session.vocabulary, settings.batch_tokens
    )
    rollouts, seconds = _timed(lambda: roll_out(engine, prompts, settings, session.recipe.seed))
    return seconds, sum(len(rollout.completion_ids) for rollout in rollouts)


def _train(session: Session, prompts: list[Prompt]) -> float:
    """Seconds per token of prompt and completion in a distillation step."""
    section = session.recipe.distill
    make = reference_rows if any(prompt.reference for prompt in prompts) else prompt_rows
    rows = make(prompts, session.tokenizer, section.max_length)
    rows = (rows * section.per_device_train_batch_size)[
        : FEW_STEPS * section.per_device_train_batch_size
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = DistillTrainer(
            model=_student(session),
            teacher=session.teacher,
            vocabulary=session.vocabulary,
            args=TrainingArguments(
                output_dir=str(Path(folder)),
                per_device_train_batch_size=section.per_device_train_batch_size,
                max_steps=FEW_STEPS,
                remove_unused_columns=False,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
                dataloader_pin_memory=torch.cuda.is_available(),
                activation_checkpointing=section.activation_checkpointing,
            ),
            train_dataset=Dataset.from_list(rows),
        )
        trainer.remove_callback(PrinterCallback)
        _, seconds = _timed(trainer.train)
    return seconds / sum(len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows)


def _student(session: Session) -> PreTrainedModel:
    """The student as it will be when the rollouts begin, but for the healing of a cut one."""
    model, cut = load_model(session.recipe.student), session.recipe.cut
    return cut_layers(model, cut.keep_layers) if cut else model


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began
