"""One training run of a stage: arguments from the recipe, a progress bar, a log, a model folder."""

import importlib.util
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from warmup_distill.artifacts import write_text
from warmup_distill.config import LoraSection, TrainSection
from warmup_distill.errors import RecipeError
from warmup_distill.models import save_model
from warmup_distill.training.base import GloballyNormalizedTrainer

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
    **arguments: Any,
) -> dict[str, int]:
    """Train a model on rows and save it, its tokenizer and `trainer_log.jsonl` to a folder.

    Args:
        model: in float32; trained in place.
        autocast: run the forward passes in bfloat16.
        arguments: what the trainer takes besides.

    Returns:
        Counts: rows and optimizer steps.
    """
    original_dtype = model.dtype
    policy = _with_lora(model, section.lora) if section.lora else model
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_type(
            model=policy,
            args=_training_arguments(section, len(rows), seed, autocast, scratch),
            train_dataset=Dataset.from_list(list(rows)),
            **arguments,
        )
        for noisy in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(noisy)
        trainer.add_callback(ProgressBar(folder.name))
        trainer.train()
    trained = _whole(policy, merge=section.lora is not None, dtype=original_dtype)
    save_model(trained, tokenizer, folder)
    history = [line for line in trainer.state.log_history if "loss" in line]
    write_text(folder / "trainer_log.jsonl", "".join(json.dumps(line) + "\n" for line in history))
    return {"rows": len(rows), "steps": trainer.state.global_step}


def _training_arguments(
    section: TrainSection, rows: int, seed: int, autocast: bool, scratch: str
) -> TrainingArguments:
    per_step = section.per_device_train_batch_size * section.gradient_accumulation_steps
    steps = section.max_steps or int(section.num_train_epochs * rows / per_step) + 1
    return TrainingArguments(
        output_dir=scratch,
        seed=seed,
        learning_rate=section.learning_rate,
        num_train_epochs=section.num_train_epochs,
        max_steps=section.max_steps or -1,
        per_device_train_batch_size=section.per_device_train_batch_size,
        gradient_accumulation_steps=section.gradient_accumulation_steps,
        lr_scheduler_type=section.lr_scheduler_type,
        warmup_steps=section.warmup_steps,
        weight_decay=section.weight_decay,
        max_grad_norm=section.max_grad_norm,
        activation_checkpointing=section.activation_checkpointing,
        bf16=autocast,
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,  # the collators read columns that no model knows
        save_strategy="no",
        report_to="none",
        logging_steps=max(1, steps // LOG_LINES),
        logging_first_step=True,
        logging_nan_inf_filter=False,  # a loss that is no number must show as one
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _with_lora(model: PreTrainedModel, section: LoraSection) -> Any:
    if importlib.util.find_spec("peft") is None:
        raise RecipeError("lora needs the extra `lora`: pip install 'warmup-distill[lora]'")
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **section.model_dump()))


def _whole(policy: Any, *, merge: bool, dtype: torch.dtype) -> PreTrainedModel:
    """The trained model in its own dtype, adapters folded into the weights where there are any."""
    model = policy.merge_and_unload() if merge else policy
    whole: PreTrainedModel = model.to(dtype)
    return whole


class ProgressBar(TrainerCallback):
    """One line with the steps, an estimate, and the last loss."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar = tqdm(total=state.max_steps, desc=self.name, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{float(logs['loss']):.4f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.close()
