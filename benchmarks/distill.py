"""A distillation step against TRL's GKDTrainer off-policy, in turns, on the same rows.

    python benchmarks/distill.py --dolly dolly.jsonl --json distill.json

Both take KL(teacher ‖ student) at every completion token. TRL runs with its default settings
(float32 aside), and without activation checkpointing.
"""

import argparse
import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import (
    apart,
    arguments,
    compare,
    finish,
    measure,
    models,
    rows,
    train,
    training_arguments,
)
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, TrainingArguments
from trl.experimental.gkd import GKDConfig, GKDTrainer

from warmup_distill.models.chat import encode_prompt, encode_reference
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.signals import TeacherSignals, write_signals
from warmup_distill.tree.model import TreeModel

BATCH, LONGEST, EPOCHS = 8, 512, 3


def ours(
    student: PreTrainedModel, teacher: PreTrainedModel, vocabulary: Vocabulary, data: Dataset,
    steps: int, signals: TeacherSignals | None = None, **choice: Any,
) -> Any:  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return DistillTrainer(
            signals=signals,
            model=student,
            teacher=teacher,
            vocabulary=vocabulary,
            objective="forward_kl",
            args=TrainingArguments(**training_arguments(steps, BATCH, folder), **choice),
            train_dataset=data,
        )


def theirs(
    student: PreTrainedModel, teacher: PreTrainedModel, tokenizer: Any, data: Dataset, steps: int,
    **choice: Any,
) -> Any:  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return GKDTrainer(
            model=student,
            teacher_model=teacher,
            args=GKDConfig(
                **training_arguments(steps, BATCH, folder), lmbda=0.0, beta=0.0, **choice
            ),
            data_collator=lambda batch: padded(batch, tokenizer.pad_token_id),
            train_dataset=data,
            processing_class=tokenizer,
        )


def padded(batch: list[dict[str, list[int]]], pad_id: int) -> dict[str, Tensor]:
    width = max(len(row["prompt_ids"]) + len(row["completion_ids"]) for row in batch)
    columns: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in batch:
        prompt, completion = row["prompt_ids"], row["completion_ids"]
        pad = width - len(prompt) - len(completion)
        columns["input_ids"].append(prompt + completion + [pad_id] * pad)
        columns["attention_mask"].append([1] * (width - pad) + [0] * pad)
        columns["labels"].append([-100] * len(prompt) + completion + [-100] * pad)
    return {name: torch.tensor(values) for name, values in columns.items()}


def read(options: argparse.Namespace, tokenizer: Any) -> Dataset:
    """The rows of all steps that fit."""
    longest, steps = sizes(options)
    encoded = [
        {
            "prompt_ids": encode_prompt(tokenizer, row.text, "chat"),
            "completion_ids": encode_reference(tokenizer, row.reference or ""),
        }
        for row in rows("dolly", options.dolly)[: 20 * steps * BATCH]
    ]
    fitting = [row for row in encoded if sum(map(len, row.values())) <= longest]
    rows_of_all = fitting[: steps * BATCH]
    return Dataset.from_list([{**row, "row": number} for number, row in enumerate(rows_of_all)])


def sizes(options: argparse.Namespace) -> tuple[int, int]:
    """Longest row in tokens, and optimizer steps."""
    return (96, 1) if options.quick else (LONGEST, 3)


def peak(side: str, options: argparse.Namespace) -> float | None:
    """Peak memory of one side, in MiB above the models; called in a process of its own."""
    student, teacher, tokenizer, vocabulary = models(options.model)
    data, (_, steps) = read(options, tokenizer), sizes(options)
    if side == "ours":
        trainer = ours(student, teacher, vocabulary, data, steps, activation_checkpointing=True)
    else:
        trainer = theirs(student, teacher, tokenizer, data, steps)
    return train(trainer)[1].peak_mib


def compare_memory(options: argparse.Namespace, state_mib: float) -> dict[str, Any]:
    """Both sides with activation checkpointing, each in a new process."""
    peaks = {side: apart(peak, side, options) for side in ("ours", "theirs")}
    if None in peaks.values():
        return {"name": "memory", "peaks": peaks}
    own, other = peaks["ours"], peaks["theirs"]
    above = (own - state_mib) / (other - state_mib)
    print(
        f"memory above the models: ours {own:.0f} MiB, theirs {other:.0f} MiB, {own / other:.2f}; "
        f"of which gradients and Adam's moments {state_mib:.0f} MiB; without them {above:.2f}"
    )
    return {"name": "memory", "peaks": peaks, "state": state_mib, "above_state": above}


def compare_signals(
    student: PreTrainedModel, teacher: PreTrainedModel, vocabulary: Vocabulary, data: Dataset,
    steps: int,
) -> dict[str, Any]:  # fmt: skip
    """Several epochs with the teacher at work in each, and with its hidden states kept on disk."""
    live = ours(copy.deepcopy(student), teacher, vocabulary, data, EPOCHS * steps)
    live_log, slow = train(live)
    with tempfile.TemporaryDirectory() as folder:
        signals, writing = measure(
            lambda: write_signals(
                TreeModel(teacher, vocabulary), data.to_list(), Path(folder), "hidden",
                top_k=1, temperature=1.0, name="teacher",
            )
        )  # fmt: skip
        kept = ours(
            copy.deepcopy(student), teacher, vocabulary, data, EPOCHS * steps, signals=signals
        )
        kept_log, fast = train(kept)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.npy")) / 2**20
    logs = {"kept_log": kept_log[-1], "live_log": live_log[-1]}
    return compare(
        f"{EPOCHS} epochs, hidden states kept against the teacher at work",
        fast, slow, writing=writing.seconds, disk_mib=round(size, 1), **logs,
    )  # fmt: skip


def main() -> None:
    options = arguments(__doc__).parse_args()
    student, teacher, tokenizer, vocabulary = models(options.model)
    data, (_, steps) = read(options, tokenizer), sizes(options)
    lengths = sorted(len(row["prompt_ids"]) + len(row["completion_ids"]) for row in data)
    print(f"{len(lengths)} rows of {lengths[0]} to {lengths[-1]} tokens, {sum(lengths)} in all")
    choices: dict[str, dict[str, Any]] = {
        "TRL GKD, default settings": {},
        "TRL GKD, both without activation checkpointing": {"gradient_checkpointing": False},
        "TRL GKD, both with activation checkpointing": {"gradient_checkpointing": True},
    }

    def both(steps: int, choice: dict[str, Any]) -> tuple[Any, Any]:
        checkpointing = choice.get("gradient_checkpointing", False)
        mine = ours(
            copy.deepcopy(student), teacher, vocabulary, data, steps,
            activation_checkpointing=checkpointing,
        )  # fmt: skip
        other = theirs(copy.deepcopy(student), teacher, tokenizer, data, steps, **choice)
        return train(mine), train(other)

    state_mib = 3 * 4 * sum(p.numel() for p in student.parameters()) / 2**20
    records = [compare_memory(options, state_mib)]
    both(1, {})  # not counted: whoever runs first maps the memory for all
    for name, choice in choices.items():
        (mine, fast), (other, slow) = both(steps, choice)
        records.append(compare(name, fast, slow, steps=steps, ours_log=mine, theirs_log=other))
    records.append(compare_signals(student, teacher, vocabulary, data, steps))
    finish(records, options.json)


if __name__ == "__main__":
    main()
