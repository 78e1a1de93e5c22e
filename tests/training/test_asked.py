"""What is asked of a training's processes is done, or refused before anything is computed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_model
from datasets import Dataset
from scenarios import VOCABULARY, warmup
from test_run import small_recipe
from test_training import ROWS
from transformers import BloomConfig, BloomForCausalLM, TrainingArguments

from warmup_distill.errors import ModelError, RecipeError
from warmup_distill.pipeline import opened
from warmup_distill.recipe import Recipe, WarmupSection
from warmup_distill.stages.models_ahead import require_shardable
from warmup_distill.training.asked import require_sharding
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.fit import training_arguments
from warmup_distill.training.passes import exchanging

FSDP = {"fsdp": True}
UNWATCHED = {"trainer": FSDP, "watch": {"prompts": 0}}


def on_gpus(**sections: Any) -> Recipe:
    """A recipe for a cluster elsewhere, of which nothing is known here."""
    return small_recipe(cluster={"num_workers": 2, "address": "auto"}, **sections)


def test_what_is_given_goes_to_training_arguments_as_it_is() -> None:
    config = {"reshard_after_forward": False, "fsdp_cpu_offload": True}
    section = WarmupSection.model_validate({"trainer": {"fsdp": True, "fsdp_config": config}})
    plugin = training_arguments(section, 8, 0, False, "scratch").fsdp_plugin_args
    assert plugin["reshard_after_forward"] is False and plugin["cpu_offload"] is True
    assert section.trainer.fsdp_config == config  # TrainingArguments write into what they are given
    words = WarmupSection.model_validate({"trainer": {"fsdp": "shard_grad_op auto_wrap"}})
    plugin = training_arguments(words, 8, 0, False, "scratch").fsdp_plugin_args
    assert plugin["reshard_after_forward"] is False
    assert training_arguments(WarmupSection(), 8, 0, False, "scratch").fsdp_plugin_args is None
    file = WarmupSection.model_validate({"trainer": {"deepspeed": "zero2.json"}})
    assert file.trainer.given() == {"deepspeed": "zero2.json"}


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"fsdp": True, "deepspeed": "zero2.json"}, "two ways to the same end"),
        ({"fsdp_config": {"reshard_after_forward": True}}, "has no effect without `fsdp: true`"),
        ({"fsdp": "full_shards"}, "expected true, false or some of full_shard"),
        ({"fsdp": []}, "expected true, false or some of full_shard"),
        ({"fsdp": True, "fsdp_config": {"reshard": True}}, "unknown key reshard; known keys"),
        ({"fsdp": True, "fsdp_config": {"fsdp_version": 1}}, "expected version 2, .* got .*1"),
    ],
)  # fmt: skip
def test_what_says_nothing_that_can_be_done_is_no_recipe(
    trainer: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        WarmupSection.model_validate({"trainer": trainer})


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (small_recipe(distill={"trainer": FSDP}), "distill.trainer.fsdp shares a model out among"),
        (
            small_recipe(cluster={"num_workers": 1}, warmup=UNWATCHED),
            "warmup.trainer.fsdp shares a model out among several processes, and there is one",
        ),
        (
            small_recipe(
                cluster={"num_workers": 2, "address": "auto", "gpus_per_worker": 0},
                distill={"trainer": FSDP},
            ),
            "distill.trainer.fsdp needs GPUs, and cluster.gpus_per_worker is 0",
        ),
        (on_gpus(warmup={"trainer": FSDP}), "set warmup.watch.prompts to 0"),
        (
            on_gpus(distill={"trainer": FSDP, "completions": {"student_share": 0.5}}),
            "leave out distill.completions.student_share and adaptive, or fsdp",
        ),
        (
            on_gpus(distill={"activation_checkpointing": True, "trainer":
                {"fsdp": True, "fsdp_config": {"activation_checkpointing": True}}}),
            "is distill.activation_checkpointing: take one",
        ),
    ],
)  # fmt: skip
def test_what_would_fail_or_silently_not_happen_is_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        require_sharding(recipe)


def test_only_the_stage_that_runs_is_looked_at(tmp_path: Path) -> None:
    recipe = small_recipe(distill={"trainer": FSDP})
    require_sharding(recipe, "warmup")
    with opened(recipe, tmp_path / "run", stage="prompts"):
        pass
    with (
        pytest.raises(RecipeError, match=r"distill\.trainer\.fsdp"),
        opened(recipe, tmp_path / "run", stage="control"),
    ):
        pass


def test_shards_that_can_be_made_are_not_refused() -> None:
    require_sharding(on_gpus(warmup=UNWATCHED, distill={"trainer": FSDP, "lora": {"r": 2}}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_shards_on_a_machine_without_a_gpu_are_refused() -> None:
    recipe = small_recipe(cluster={"num_workers": 2}, distill={"trainer": FSDP})
    with pytest.raises(RecipeError, match="needs GPUs, and this machine has none"):
        require_sharding(recipe)


def test_deepspeed_without_its_package_is_refused_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    recipe = on_gpus(distill={"trainer": {"deepspeed": str(tmp_path / "zero.json")}})
    with pytest.raises(RecipeError) as error:
        require_sharding(recipe)
    assert "pip install deepspeed" in str(error.value)
    assert "ZeRO stage 3 does not train here" in str(error.value)
    (tmp_path / "zero.json").write_text("[1]")
    with pytest.raises(RecipeError, match=r"expected a DeepSpeed configuration .* at .*zero\.json"):
        require_sharding(recipe)


def test_processes_that_accelerate_would_train_apart_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU it takes each of them for the only one, unless it hears of the CPU by name."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    by_itself = TrainingArguments(output_dir=str(tmp_path), report_to="none")
    with pytest.raises(RecipeError, match="WORLD_SIZE is 2, and Accelerate runs 1 process"):
        DistillTrainer(
            model=random_model(1), teacher=random_model(2), vocabulary=VOCABULARY,
            args=by_itself, train_dataset=Dataset.from_list(ROWS),
        )  # fmt: skip


def test_shards_of_a_student_that_runs_its_sequences_apart_are_refused(tmp_path: Path) -> None:
    """ALiBi's biases hang on places that packed rows do not have."""
    shape = {"vocab_size": 40, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    BloomForCausalLM(BloomConfig(**shape)).save_pretrained(tmp_path)
    student = {"student": str(tmp_path)}
    require_shardable(on_gpus(**student))
    with pytest.raises(ModelError, match=r"^distill\.trainer\.fsdp gathers weights .*\(plain: "):
        require_shardable(on_gpus(**student, distill={"trainer": FSDP}))


@pytest.mark.parametrize("last_of_step", [True, False])
def test_an_engine_that_steps_by_itself_steps_after_the_last_packed_row_alone(
    last_of_step: bool, tmp_path: Path
) -> None:
    """DeepSpeed takes its step in the backward pass in which gradients are exchanged."""
    trainer = warmup(tmp_path, 1)
    trainer.is_deepspeed_enabled = True
    trainer.accelerator.gradient_state._set_sync_gradients(last_of_step)
    seen = []
    for last in (False, False, True):
        with exchanging(trainer, trainer.model, last):
            seen.append(trainer.accelerator.sync_gradients)
    assert seen == [False, False, last_of_step]
    assert trainer.accelerator.sync_gradients is last_of_step
