"""What the teacher has said is on disk: then it is not in memory while the student is trained."""

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_model
from test_run import small_recipe
from test_training import NUMBERED, distill_trainer, signalled

from warmup_distill.errors import RecipeError
from warmup_distill.models.heads import load_head
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.pipeline import opened, run_stage
from warmup_distill.recipe import Recipe
from warmup_distill.stages import distilling, warmup
from warmup_distill.store.artifacts import read_json
from warmup_distill.training.distill import collate_completions
from warmup_distill.tree.heads import Head


@pytest.mark.parametrize("objective", ["forward_kl", "reverse_kl", "jensen_shannon"])
def test_hidden_states_with_the_head_alone_give_the_losses_of_the_whole_teacher(
    objective: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    whole = signalled(vocabulary, tmp_path, "hidden", NUMBERED, objective=objective)
    ref = ModelRef.of(str(tmp_path / "teacher"), "float32")
    head = Head(load_head(ref), random_model(2).config, vocabulary)
    alone = signalled(
        vocabulary, tmp_path, "hidden", NUMBERED, objective=objective, teacher=None,
        teacher_head=head,
    )  # fmt: skip
    batch = collate_completions(NUMBERED)
    assert alone.teacher is None
    assert alone.summed_loss(batch).equal(whole.summed_loss(batch))
    live = distill_trainer(vocabulary, tmp_path, (4, 1), objective=objective)
    torch.testing.assert_close(alone.summed_loss(batch), live.summed_loss(batch))


def test_hidden_states_without_a_head_are_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    trainer = signalled(vocabulary, tmp_path, "hidden", NUMBERED, teacher=None)
    with pytest.raises(RecipeError, match="hidden states need the teacher's head"):
        trainer.summed_loss(collate_completions(NUMBERED))


def test_the_top_k_need_nothing_of_the_teacher(vocabulary: Vocabulary, tmp_path: Path) -> None:
    whole = signalled(vocabulary, tmp_path, "top_k", NUMBERED)
    alone = signalled(vocabulary, tmp_path, "top_k", NUMBERED, teacher=None)
    batch = collate_completions(NUMBERED)
    assert alone.summed_loss(batch).equal(whole.summed_loss(batch))


class Watcher:
    """Every model that a process has held, and which of them are alive when a training begins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loaded: list[tuple[str, Any]] = []
        self.alive: list[list[str]] = []
        load = ModelRef.load

        def loading(ref: ModelRef) -> Any:
            model = load(ref)
            self.loaded.append((ref.name, weakref.ref(model.get_decoder())))
            return model

        monkeypatch.setattr(ModelRef, "load", loading)
        for stage in (distilling, warmup):
            monkeypatch.setattr(stage, "fit", self._around(stage.fit))

    def _around(self, fit: Any) -> Any:
        def fitting(*arguments: Any, **named: Any) -> Any:
            gc.collect()
            self.alive.append([name for name, body in self.loaded if body() is not None])
            return fit(*arguments, **named)

        return fitting


def run_stages(recipe: Recipe, folder: Path, *stages: str) -> None:
    with opened(recipe, folder) as session:
        for stage in stages:
            run_stage(session, stage)


def recipe(warmup: Any = None, **distilled: Any) -> Recipe:
    return small_recipe(
        control=False,
        warmup=warmup or {"learning_rate": 1e-4},
        rollouts={"num_samples": 4, "max_new_tokens": 64, "limit": 10},
        distill={"learning_rate": 1e-4, "max_length": 128, "max_steps": 2} | distilled,
    )


STAGES = ("prompts", "rollouts", "pairs", "warmup", "distill")


@pytest.mark.parametrize(
    ("distilled", "alive"),
    [({}, ["bundled:teacher"]), ({"teacher_signal": "hidden"}, []),
     ({"teacher_signal": "top_k"}, []), ({"objective": "sft"}, []),
     ({"objective": "sft", "completions": {"source": "teacher"}}, [])],
)  # fmt: skip
def test_only_a_live_teacher_is_in_memory_while_the_student_is_distilled(
    distilled: dict[str, Any], alive: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(monkeypatch)
    run_stages(recipe(**distilled), tmp_path, *STAGES)
    assert [name for name, _ in watcher.loaded]  # it has been there before
    assert watcher.alive[-1] == alive


def test_a_distillation_on_kept_hidden_states_is_that_with_the_teacher_there(
    tmp_path: Path,
) -> None:
    losses = []
    for signal in ("live", "hidden"):
        run_stages(recipe(teacher_signal=signal), tmp_path / signal, *STAGES)
        log = (tmp_path / signal / "distill/trainer_log.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in log])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(("prompts", "alive"), [(0, []), (2, ["bundled:teacher"])])
def test_without_a_watch_neither_teacher_nor_reference_is_held_in_the_warm_up(
    prompts: int, alive: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(monkeypatch)
    settings = {"learning_rate": 1e-4, "watch": {"prompts": prompts}}
    run_stages(recipe(warmup=settings), tmp_path, *STAGES[:4])
    assert {name for name, _ in watcher.loaded} == {"bundled:teacher", "bundled:student"}
    assert watcher.alive == [alive]
    assert read_json(tmp_path / "manifest.json")["stages"]["warmup"]["counts"]["rows"] > 0
