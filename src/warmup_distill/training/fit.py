"""One training run of a stage: arguments from the recipe, checkpoints, a log, a model folder."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from warmup_distill.cluster.places import NOBODY, StepMeter
from warmup_distill.ledger.ran import Ran
from warmup_distill.models.saving import save_model
from warmup_distill.recipe import TrainSection
from warmup_distill.recipe.batches import share_of_batch
from warmup_distill.store.artifacts import write_json, write_text
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.stopping import asked, leave_if_asked
from warmup_distill.training.adapters import with_lora
from warmup_distill.training.base import GloballyNormalizedTrainer
from warmup_distill.training.checkpoints import Sealing, newest_whole
from warmup_distill.training.ranks import any_of, gathered, is_first, processes, wait_for_all
from warmup_distill.training.sharding import gather_into, without_weights
from warmup_distill.training.watch import Watch, Watched

logger = logging.getLogger(__name__)

FREE = {"row_tokens", "save_steps"}
"""Settings that a checkpoint does not depend on."""

LOG_LINES = 100
"""About how many lines a training log has, whatever the number of steps."""


def fit(
    trainer_type: type[GloballyNormalizedTrainer],
    model: PreTrainedModel,
    rows: Sequence[dict[str, Any]],
    section: TrainSection,
    folder: Path,
    *,
    seed: int,
    tokenizer: Any,
    autocast: bool,
    saved_dtype: torch.dtype = torch.float32,
    origin: Mapping[str, Any] | None = None,
    watched: Watched | None = None,
    meter: StepMeter = NOBODY,
    **arguments: Any,
) -> dict[str, Any]:
    """Train a model on rows and save it, its tokenizer and `trainer_log.jsonl` to a folder.

    Goes on from the newest whole checkpoint in `checkpoints/` beside the folder, if there is one,
    to the same weights as without the interruption (as many processes as before, on CPUs).

    Args:
        model: in float32; trained in place.
        rows: with a `row`, the number that names each of them in messages.
        autocast: run the forward passes in bfloat16.
        saved_dtype: of the folder's weights.
        origin: what tells start, teacher and stage from others; a checkpoint serves no other.
        watched: examine the policy meanwhile, and keep its best point.
        meter: hears of every step.
        arguments: what the trainer takes besides.

    Returns:
        Counts: rows and optimizer steps, and those of the watch; what `ran` in all processes, as
        `Ran.state` gives it, and the numbers of the `adapters`.

    Raises:
        RunError: the checkpoint belongs to another training.
        NumbersError: a loss or gradient is not finite.
        Stopped: a signal asked for it; the last step is saved.
    """
    set_seed(seed)  # before the trainer does: adapters are drawn first
    policy: Any = with_lora(model, section.lora) if section.lora else model
    scratch = scratch_of(folder)
    about = {
        **section.model_dump(mode="json", exclude=FREE),
        "seed": seed,
        "rows": digest(list(rows)),
        "counted": 1,  # checkpoints of earlier versions do not say what has run
        **(origin or {}),
        "processes": processes(),
    }
    blank: Any = without_weights(policy) if section.trainer.fsdp else None
    trainer = trainer_type(
        model=policy,
        args=training_arguments(section, len(rows), seed, autocast, str(scratch)),
        train_dataset=Dataset.from_list(list(rows)),
        **arguments,
    )
    for noisy in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(noisy)
    watch = Watch(trainer, watched, scratch) if watched else None
    callbacks = [TellSteps(meter), LeaveWhenAsked(), watch, Sealing(about)]
    for callback in filter(None, callbacks):
        trainer.add_callback(callback)
    _train(trainer, newest_whole(scratch, about), watch)
    if blank is not None:
        gather_into(blank, trainer)
    adapters = policy.num_parameters(only_trainable=True) if section.lora else 0
    if is_first():
        whole = policy if blank is None else blank
        trained = whole.merge_and_unload() if section.lora else whole
        save_model(trained, tokenizer, folder, trainer.vocabulary, saved_dtype)
        _write_logs(trainer, folder, watch)
    wait_for_all()
    counts = {"rows": len(rows), "steps": trainer.state.global_step, "adapters": adapters}
    ran = Ran.total(gathered(trainer.ran.state()))
    return counts | {"ran": ran.state()} | (watch.counts() if watch else {})


def scratch_of(folder: Path) -> Path:
    """Where the checkpoints are of a training that saves its model to a folder."""
    return folder.parent / "checkpoints" / folder.name


def _write_logs(trainer: GloballyNormalizedTrainer, folder: Path, watch: Watch | None) -> None:
    history = [line for line in trainer.state.log_history if "loss" in line]
    write_text(folder / "trainer_log.jsonl", "".join(json.dumps(line) + "\n" for line in history))
    if watch:
        write_json(folder / "watch.json", watch.history)


def _train(
    trainer: GloballyNormalizedTrainer, checkpoint: Path | None, watch: Watch | None
) -> None:
    if checkpoint is None:
        trainer.train()
    else:
        logger.info("going on from %s", checkpoint)
        _go_on(trainer, checkpoint, watch)
    if trainer.state.global_step < trainer.state.max_steps:
        leave_if_asked()  # else it ended by itself


def _go_on(trainer: GloballyNormalizedTrainer, checkpoint: Path, watch: Watch | None) -> None:
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if watch:
        watch.recall(checkpoint)
    stopped = watch is not None and (watch.leads_away() or watch.is_given_up())
    ended = state.global_step >= state.max_steps or stopped
    if not ended:
        trainer.train(resume_from_checkpoint=str(checkpoint))
        return
    # The trainer would take one step more. Only what follows the training is left to do.
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.recall(checkpoint)
    trainer.state = state
    if watch:
        watch.keep_best()


def training_arguments(
    section: TrainSection, rows: int, seed: int, autocast: bool, scratch: str
) -> TrainingArguments:
    """What a section of the recipe says, in `transformers`' words."""
    rows_at_once, accumulation = share_of_batch(
        section.per_device_train_batch_size, section.gradient_accumulation_steps, processes()
    )
    per_step = section.per_device_train_batch_size * section.gradient_accumulation_steps
    steps = section.max_steps or int(section.num_train_epochs * rows / per_step) + 1
    return TrainingArguments(
        output_dir=scratch,
        seed=seed,
        learning_rate=section.learning_rate,
        num_train_epochs=section.num_train_epochs,
        max_steps=section.max_steps or -1,
        per_device_train_batch_size=rows_at_once,
        gradient_accumulation_steps=accumulation,
        lr_scheduler_type=section.lr_scheduler_type,
        warmup_steps=section.warmup_steps,
        weight_decay=section.weight_decay,
        max_grad_norm=section.max_grad_norm,
        activation_checkpointing=section.activation_checkpointing,
        bf16=autocast,
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,  # the collators read columns that no model knows
        save_strategy="steps",
        save_steps=section.save_steps,
        report_to="none",
        logging_steps=max(1, steps // LOG_LINES),
        logging_first_step=True,
        logging_nan_inf_filter=False,  # a loss that is no number must show as one
        dataloader_pin_memory=torch.cuda.is_available(),
        **section.trainer.given(),
    )


class LeaveWhenAsked(TrainerCallback):
    """Saves and ends the training after the step in which a signal came."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if any_of(asked() is not None):
            control.should_save = control.should_training_stop = True


class TellSteps(TrainerCallback):
    """Tells how far the training is, and the last loss."""

    def __init__(self, meter: StepMeter) -> None:
        self.meter = meter
        self.loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.meter.reached(state.global_step, state.max_steps, None)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.meter.reached(state.global_step, state.max_steps, self.loss)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.loss = float(logs["loss"])
            self.meter.reached(state.global_step, state.max_steps, self.loss)
