"""One of several processes that train together; started by test_distributed.py.

    RANK=… WORLD_SIZE=2 … python distributed_worker.py replicated|sharded FOLDER

The first process writes what its trainings have left, and each what it has seen by itself.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from conftest import random_model
from scenarios import SCENARIOS, VOCABULARY, distill, fitted, fsdp, outcome
from test_exactness import Nothing
from test_state import Killed, kill_at
from test_training import ROWS, pairs

from warmup_distill.errors import NumbersError, RecipeError
from warmup_distill.recipe.training import WarmupSection, WatchSection
from warmup_distill.training.completions import StudentShare
from warmup_distill.training.distill import collate_completions
from warmup_distill.training.finite import FiniteGradients
from warmup_distill.training.fit import fit
from warmup_distill.training.warmup import WarmupTrainer
from warmup_distill.training.watch import Watch, Watched

RANK = int(os.environ["RANK"])


def replicated(folder: Path) -> dict[str, Any]:
    """Each process holds the whole model (DDP)."""
    found = {name: outcome(name, folder, 2) for name in SCENARIOS}
    fitted(folder / "fitted")
    found["watched"] = _watched(folder / "watched")
    found["drawn"] = _drawn(folder)
    found["refused"] = _refused(folder)
    return found


def sharded(folder: Path) -> dict[str, Any]:
    """The processes share out the model (FSDP2).

    Accelerate shards on GPUs alone, and on CPUs it takes DDP in silence. It is told that these are
    GPUs; all that follows is its own and PyTorch's code for FSDP2, over gloo.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartialState, "__init__", _as_if_on_gpus(PartialState.__init__))
        found: dict[str, Any] = {}
        for number, name in enumerate(SCENARIOS):  # in every other one the head is a unit by itself
            layers = ["LlamaDecoderLayer", "Linear"][: 1 + number % 2]
            units = fsdp(transformer_layer_cls_to_wrap=layers)
            found[name] = outcome(name, folder, 2, **units)
        found["not finite"] = _not_finite(folder)
        with pytest.raises(RecipeError, match="student_share: FSDP leaves no process a whole"):
            distill(folder, 2, StudentShare(share=1.0), **fsdp())
        fitted(folder / "undisturbed", trainer=fsdp())
        _killed_and_resumed(folder / "resumed", trainer=fsdp())
        in_pieces = fsdp(state_dict_type="SHARDED_STATE_DICT")
        _killed_and_resumed(folder / "in_pieces", trainer=in_pieces)
        _killed_and_resumed(folder / "adapted", trainer=fsdp(), lora={"r": 2})
    return found


def _as_if_on_gpus(original: Any) -> Any:
    def begin(state: PartialState, *arguments: Any, **named: Any) -> None:
        original(state, *arguments, **named)
        shared = PartialState._shared_state
        if shared["distributed_type"] == DistributedType.MULTI_CPU:
            shared["distributed_type"] = DistributedType.MULTI_GPU

    return begin


def _killed_and_resumed(folder: Path, **changes: Any) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(4, patch)
        fitted(folder, **changes)
    fitted(folder, **changes)


def _watched(folder: Path) -> dict[str, int]:
    """The counts of a warm-up that leads away from the teacher, as the first process is told."""

    def told(watch: Watch) -> SimpleNamespace:
        assert RANK == 0, "one process examines, and the others wait for it"
        further = float(len(watch.history))
        return SimpleNamespace(mismatch_share=further, reverse_kl=further)

    given = Watched(
        section=WatchSection(steps=1, patience=2), prompts=[], teacher=random_model(2),
        margin_threshold=4.0, max_new_tokens=1, batch_tokens=1, seed=0,
    )  # fmt: skip
    section = WarmupSection(learning_rate=1e-2, max_steps=5, per_device_train_batch_size=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "_agreement", told)
        return fit(
            WarmupTrainer, random_model(3), pairs(), section, folder, seed=0, watched=given,
            tokenizer=Nothing(), autocast=False, vocabulary=VOCABULARY,
        )  # fmt: skip


def _drawn(folder: Path) -> dict[str, Any]:
    """What this process draws for rows that all of them have, and its weights after a step."""
    trainer = distill(folder, 2, StudentShare(share=1.0, max_new_tokens=8))
    assert trainer.completions is not None
    (batch,) = trainer.completions.of_step([collate_completions(ROWS)], 0, 0.0)
    trainer.train()
    return {"ids": batch["input_ids"].tolist(), "weights": trainer.model.state_dict()}


def _refused(folder: Path) -> str:
    with pytest.raises(RecipeError) as error:
        distill(folder, 2, **fsdp())
    return str(error.value)


def _not_finite(folder: Path) -> str:
    """A gradient of which the second process alone holds what is not finite."""
    trainer = distill(folder, 2, **fsdp())
    trainer.train()
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if RANK == 1:
        trainer.model.lm_head.weight.grad.to_local()[0, 0] = torch.inf
    with pytest.raises(NumbersError) as error:
        FiniteGradients().on_pre_optimizer_step(None, trainer.state, None, model=trainer.model)
    return str(error.value)


def main() -> None:
    found = {"replicated": replicated, "sharded": sharded}[sys.argv[1]](Path(sys.argv[2]))
    torch.save(found, Path(sys.argv[2]) / f"found-{RANK}.pt")
    torch.distributed.barrier()
    os._exit(0)  # gloo sometimes hangs while Python takes it down


if __name__ == "__main__":
    main()
