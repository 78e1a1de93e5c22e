"""A model that processes share out: whether a training does what was asked, before it begins."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType

from warmup_distill.errors import ModelError, RecipeError
from warmup_distill.foreign.reading import read_text, reading
from warmup_distill.recipe import DistillSection, Recipe, TrainSection
from warmup_distill.recipe.batches import trainings_of
from warmup_distill.training.ranks import processes

KINDS = {"fsdp": DistributedType.FSDP, "deepspeed": DistributedType.DEEPSPEED}
"""What Accelerate calls each way to share out a model."""

MOST_CHARACTERS = 2**18
"""Of a DeepSpeed configuration."""


def require_sharding(recipe: Recipe, stage: str | None = None) -> None:
    """Raise a RecipeError if what a section `trainer` asks for would fail, or silently not happen.

    Found before anything is computed; the workers are looked at again when a training begins.

    Args:
        stage: the only one that will be run.
    """
    faults = [
        f"{name}.trainer.{fault}"
        for name, section in trainings_of(recipe, stage).items()
        for fault in (*_common_faults(recipe, section), *_faults(name, section))
    ]
    if faults:
        raise RecipeError("; ".join(faults))


def _common_faults(recipe: Recipe, section: TrainSection) -> Iterator[str]:
    """Of both ways to share out a model."""
    cluster = recipe.cluster
    for way in KINDS.keys() & section.trainer.given().keys():
        if cluster is None or cluster.num_workers == 1:
            yield (
                f"{way} shares a model out among several processes, and there is one: start them "
                "with --workers N, or leave it out"
            )
        elif cluster.gpus_per_worker == 0:
            yield f"{way} needs GPUs, and cluster.gpus_per_worker is 0: leave one of the two out"
        elif cluster.address == "local" and not torch.cuda.is_available():
            yield (
                f"{way} needs GPUs, and this machine has none: on CPUs every worker holds the "
                "whole model, so leave it out"
            )


def _faults(name: str, section: TrainSection) -> Iterator[str]:
    trainer = section.trainer
    if trainer.deepspeed is not None:
        yield from _deepspeed_faults(trainer.deepspeed)
    if not trainer.fsdp:
        return
    if isinstance(section, DistillSection) and section.completions.from_student:
        yield (
            f"fsdp leaves no process a whole student to draw completions from: leave out "
            f"{name}.completions.student_share and adaptive, or fsdp"
        )
    watch = getattr(section, "watch", None)
    if watch is not None and watch.prompts:
        yield (
            f"fsdp leaves no process a whole student to examine: set {name}.watch.prompts to 0, "
            "or leave fsdp out"
        )
    if section.activation_checkpointing and trainer.checkpoints_activations:
        yield f"fsdp_config.activation_checkpointing is {name}.activation_checkpointing: take one"


def _deepspeed_faults(path: Path) -> Iterator[str]:
    if find_spec("deepspeed") is None:
        yield "deepspeed needs a package that is not installed: pip install deepspeed"
    what = f"trainer.deepspeed: expected a DeepSpeed configuration (JSON) at {path}"
    text = read_text(path, RecipeError, what, most=MOST_CHARACTERS)
    with reading(RecipeError, what):
        stage = json.loads(text).get("zero_optimization", {}).get("stage")
    if stage == 3:
        yield "deepspeed: ZeRO stage 3 does not train here; `fsdp: true` shares out as much"


def require_as_asked(trainer: Any) -> None:
    """Raise an error if the processes would not train as they were asked to.

    Raises:
        RecipeError: Accelerate runs one process by itself, or shards nothing, where more was asked.
        ModelError: the model cannot be trained in shards.
    """
    accelerator = trainer.accelerator
    if processes() > 1 and accelerator.num_processes == 1:
        raise RecipeError(
            f"WORLD_SIZE is {processes()}, and Accelerate runs 1 process: each would train by "
            "itself and write over the others. Start them with torchrun, and on CPUs with "
            "TrainingArguments(use_cpu=True) or ACCELERATE_USE_CPU=true."
        )
    for name, kind in KINDS.items():
        if getattr(trainer.args, name) and accelerator.distributed_type != kind:
            raise RecipeError(
                f"{name} was asked for, which is {kind.value} to Accelerate, and it runs "
                f"{accelerator.distributed_type.value} instead: it shards on GPUs alone, over "
                f"several processes. Leave {name} out, or train where there are GPUs."
            )
    if not trainer.is_fsdp_enabled:
        return
    if not accelerator.is_fsdp2:
        raise RecipeError("expected version 2 of FSDP, got 1: set fsdp_config['version'] to 2.")
    if not trainer.policy.shares:
        raise ModelError(
            "model: FSDP gathers weights in every pass, and this model runs its sequences apart, "
            "in numbers of passes that processes do not share. Train it without fsdp."
        )
