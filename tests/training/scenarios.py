"""Trainings that one process runs, and two: what both leave is held against one another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VOCABULARY_SIZE, random_model
from datasets import Dataset
from safetensors.torch import load_file
from test_exactness import Nothing
from test_training import ROWS, arguments, pairs

from warmup_distill.ledger.ran import Ran
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe.distillation import DistillSection
from warmup_distill.training.completions import StudentShare
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.fit import fit
from warmup_distill.training.ranks import gathered
from warmup_distill.training.warmup import WarmupTrainer

VOCABULARY = Vocabulary(size=VOCABULARY_SIZE, eos_ids=frozenset({1}), pad_id=0)
FIVE = [*ROWS, {"prompt_ids": [30, 31, 32], "completion_ids": [33, 34, 35, 1]}]


def fsdp(**settings: Any) -> dict[str, Any]:
    """For TrainingArguments, which write into it."""
    layers = {"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}
    return {"fsdp": True, "fsdp_config": layers | settings}


def distill(
    folder: Path, processes: int, share: StudentShare | None = None, **more: Any
) -> DistillTrainer:
    """One step of four rows, in packed rows of eight tokens at the most."""
    return DistillTrainer(
        model=random_model(1), teacher=random_model(2), vocabulary=VOCABULARY, row_tokens=8,
        student_share=share, train_dataset=Dataset.from_list(ROWS),
        args=arguments(folder, 4 // processes, 1, **more),
    )  # fmt: skip


def warmup(folder: Path, processes: int, **more: Any) -> WarmupTrainer:
    """One step of four pairs: three packed rows, of which one process of two has two."""
    return WarmupTrainer(
        model=random_model(3), vocabulary=VOCABULARY, beta=0.5, row_tokens=13,
        train_dataset=Dataset.from_list(pairs()),
        args=arguments(folder, 4 // processes, 1, **more),
    )  # fmt: skip


def checkpointed(folder: Path, processes: int, **more: Any) -> WarmupTrainer:
    return warmup(folder, processes, activation_checkpointing=True, **more)


def uneven(folder: Path, processes: int, **more: Any) -> DistillTrainer:
    """Five rows in steps of four, each in two passes: some process has no row at an epoch's end."""
    steps = {"max_steps": 4, "learning_rate": 1e-3}
    return DistillTrainer(
        model=random_model(1), teacher=random_model(2), vocabulary=VOCABULARY, row_tokens=8,
        objective="taid", options={"momentum": 0.5, "rate": 0.1},
        train_dataset=Dataset.from_list(FIVE), eval_dataset=Dataset.from_list(FIVE[2:]),
        args=arguments(folder, 2 // processes, 2, **(steps | more)),
    )  # fmt: skip


def shared_prompts(folder: Path, processes: int, **more: Any) -> WarmupTrainer:
    """Five pairs of three prompts, over two epochs."""
    first, second, third, fourth = pairs()
    rows = [first, second | {"prompt_ids": first["prompt_ids"]}, third, fourth, third]
    steps = {"max_steps": 4, "learning_rate": 1e-3}
    return WarmupTrainer(
        model=random_model(3), vocabulary=VOCABULARY, beta=0.5, starts_as_reference=False,
        train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(rows[1:4]),
        args=arguments(folder, 4 // processes, 1, **(steps | more)),
    )  # fmt: skip


SCENARIOS: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (distill, warmup, checkpointed, uneven, shared_prompts)
}


def outcome(name: str, folder: Path, processes: int, **more: Any) -> dict[str, Any]:
    """What a training leaves: its log, its schedule, its loss on held-out rows, its weights."""
    with pytest.MonkeyPatch.context() as patch:  # the head runs in blocks of three positions
        patch.setattr("warmup_distill.tree.packed.LOGITS_AT_ONCE", 3 * VOCABULARY_SIZE)
        trainer = SCENARIOS[name](folder, processes, **more)
        trainer.train()
        held_out = trainer.evaluate() if trainer.eval_dataset is not None else {}
    lines = [line for line in trainer.state.log_history if "loss" in line]
    schedule = getattr(trainer, "schedule", None)
    return {
        # But for the share of an epoch, which Trainer counts in passes.
        "log": [{k: v for k, v in line.items() if k != "epoch"} for line in lines],
        "t": schedule.t if schedule else 0.0,
        "held_out": {k: v for k, v in held_out.items() if k.endswith(("_loss", "_margin"))},
        "ran": Ran.total(gathered(trainer.ran.state())).state(),
        "weights": trainer.accelerator.get_state_dict(trainer.model),
    }


def fitted(folder: Path, **changes: Any) -> None:
    """Distil a model whose head is its embedding: two epochs of two steps, in bfloat16 on disk."""
    model = random_model(1)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    settings = {
        "learning_rate": 1e-2, "per_device_train_batch_size": 4, "num_train_epochs": 2,
        "save_steps": 1,
    }  # fmt: skip
    fit(
        DistillTrainer, model, FIVE, DistillSection.model_validate(settings | changes), folder,
        seed=0, tokenizer=Nothing(), autocast=False, saved_dtype=torch.bfloat16,
        teacher=random_model(2), vocabulary=VOCABULARY, row_tokens=8,
    )  # fmt: skip


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
