"""Trainings start where the reference is, run in the dtype asked for, and are the same twice."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VOCABULARY_SIZE, random_model
from datasets import Dataset
from test_training import ROWS, arguments, distill_trainer, only_row, pairs, warmup_trainer
from torch import nn
from transformers import (
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Starcoder2Config,
    Starcoder2ForCausalLM,
    Trainer,
    TrainerCallback,
)

from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import ModelError
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe import DistillSection, LoraSection
from warmup_distill.training.adapters import with_lora
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.fit import fit
from warmup_distill.training.warmup import WarmupTrainer


def opt() -> PreTrainedModel:
    config = OPTConfig(
        vocab_size=VOCABULARY_SIZE, hidden_size=32, ffn_dim=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64, dropout=0.5, layerdrop=0.5,
        attention_dropout=0.5, init_std=0.3, word_embed_proj_dim=32, pad_token_id=0,
    )  # fmt: skip
    return OPTForCausalLM(config)


def starcoder2() -> PreTrainedModel:
    config = Starcoder2Config(
        vocab_size=VOCABULARY_SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        residual_dropout=0.5, embedding_dropout=0.5, attention_dropout=0.5, initializer_range=0.3,
        bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    return Starcoder2ForCausalLM(config)


def scored_by(model: PreTrainedModel, vocabulary: Vocabulary) -> Dataset:
    """The pairs of the other tests with the log-probabilities of this model."""
    engine = TransformersEngine(model, model, vocabulary, 1000)
    rows = pairs()
    for row in rows:
        cut = row["mismatch_index"]
        for side in ("chosen", "rejected"):
            ids = row[f"{side}_ids"]
            with torch.no_grad(), engine.student.following():
                hidden, targets = engine.student.completion_hidden([row["prompt_ids"]], [ids])
                values = engine.student.logprobs(hidden, targets)
            row[f"{side}_ref_logprob"] = float(values[cut:].sum())
    return Dataset.from_list(rows)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("build", [opt, starcoder2])
def test_a_policy_with_dropout_of_any_kind_starts_as_its_reference(
    build: Any, checkpointing: bool, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = build().eval()
    more = {"activation_checkpointing": checkpointing, "max_steps": 2, "learning_rate": 0.0}
    trainer = WarmupTrainer(
        model=model, vocabulary=vocabulary, beta=0.5, train_dataset=scored_by(model, vocabulary),
        args=arguments(tmp_path, 4, 1, **more),
    )  # fmt: skip
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses == pytest.approx([math.log(2)] * 2, abs=1e-5)
    accuracy = [line["accuracy"] for line in trainer.state.log_history if "loss" in line]
    assert accuracy == [0.0, 0.0], "what only rounding decides is no win"


def test_a_policy_that_is_not_the_reference_is_refused_and_may_be_meant(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    other = {"model": random_model(4), "vocabulary": vocabulary, "beta": 0.5,
             "train_dataset": Dataset.from_list(pairs())}  # fmt: skip
    trainer = WarmupTrainer(args=arguments(tmp_path, 4, 1), **other)
    with pytest.raises(ModelError, match=r"should be ln 2 = 0\.6931, and it is"):
        trainer.train()
    WarmupTrainer(args=arguments(tmp_path, 4, 1), starts_as_reference=False, **other).train()


class Dtypes:
    """What comes out of each part of a model that gives a tensor."""

    def __init__(self, model: nn.Module) -> None:
        self.found: dict[str, torch.dtype] = {}
        for name, module in model.named_modules():
            module.register_forward_hook(partial(self._note, name))

    def _note(self, name: str, module: Any, inputs: Any, output: Any) -> None:
        if torch.is_tensor(output):
            self.found[name] = output.dtype


def dtypes_of_a_plain_trainer(folder: Path) -> dict[str, torch.dtype]:
    """Those of `transformers.Trainer(bf16=True)` on the same model and rows."""
    rows = [{"input_ids": (ids := row["prompt_ids"] + row["completion_ids"]), "labels": ids}
            for row in ROWS]  # fmt: skip
    model = random_model(3)
    dtypes = Dtypes(model)
    args = arguments(folder, 1, 1, bf16=True)
    Trainer(model=model, args=args, train_dataset=Dataset.from_list(rows)).train()
    return dtypes.found


@pytest.mark.parametrize("build", [distill_trainer, warmup_trainer])
def test_bfloat16_is_that_of_activations_with_weights_and_optimizer_in_float32(
    build: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    trainer = build(vocabulary, tmp_path, (4, 1), args=arguments(tmp_path, 4, 1, bf16=True))
    dtypes = Dtypes(trainer.model)
    trainer.train()
    assert dtypes.found == dtypes_of_a_plain_trainer(tmp_path)
    linear = [name for name, one in trainer.model.named_modules() if isinstance(one, nn.Linear)]
    assert {dtypes.found[name] for name in linear} == {torch.bfloat16}
    states = [v for state in trainer.optimizer.state.values() for v in state.values()]
    kept = [*trainer.model.parameters(), *states]
    assert {value.dtype for value in kept if torch.is_tensor(value)} == {torch.float32}
    exact = build(vocabulary, tmp_path, (4, 1))
    exact.train()
    losses = [one.state.log_history[0]["loss"] for one in (trainer, exact)]
    # Eight bits of mantissa: half a percent of logits of size 5 or so.
    assert losses[0] == pytest.approx(losses[1], abs=0.1)


@pytest.mark.parametrize("build", [distill_trainer, warmup_trainer])
def test_blocks_of_the_loss_give_the_gradient_of_the_whole_in_bfloat16_too(
    build: Any, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    for logits in (2**23, 2 * vocabulary.size * 2):
        monkeypatch.setattr("warmup_distill.tree.packed.LOGITS_AT_ONCE", logits)
        trainer = build(vocabulary, tmp_path, (4, 1), args=arguments(tmp_path, 4, 1, bf16=True))
        batch = only_row(trainer) if build is warmup_trainer else trainer.data_collator(ROWS)
        trainer.compute_loss(trainer.model, batch).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]))
    scale = float(gradients[0].abs().max())
    torch.testing.assert_close(gradients[1], gradients[0], atol=0.02 * scale, rtol=0)


def test_a_schedule_goes_on_from_a_checkpoint_in_a_script_of_one_s_own(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    def trainer(folder: Path) -> DistillTrainer:
        more = {"max_steps": 6, "learning_rate": 1e-2, "save_strategy": "steps", "save_steps": 3}
        return distill_trainer(
            vocabulary, folder, (2, 1), objective="taid", args=arguments(folder, 2, 1, **more)
        )

    undisturbed = trainer(tmp_path)
    undisturbed.train()
    again = trainer(tmp_path)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert again.schedule and undisturbed.schedule
    assert again.schedule.state() == undisturbed.schedule.state()
    for found, expected in zip(
        again.model.parameters(), undisturbed.model.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_adapters_start_from_the_seed_whatever_was_drawn_before(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    section = DistillSection(max_steps=2, lora=LoraSection(r=4), learning_rate=1e-2)
    weights = []
    for number in range(2):
        torch.manual_seed(number)
        torch.rand(100 * number + 1)
        model = random_model(1)
        fit(
            DistillTrainer, model, ROWS, section, tmp_path / str(number), seed=0,
            tokenizer=Nothing(), autocast=False, teacher=random_model(2), vocabulary=vocabulary,
        )  # fmt: skip
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


class Nothing:
    """A tokenizer that leaves no files."""

    pad_token_id = None

    def save_pretrained(self, folder: Path) -> None:
        """Do nothing."""


class AskTorch(TrainerCallback):
    """Whether sums have one order while a training runs."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.deterministic = torch.are_deterministic_algorithms_enabled()


def test_sums_have_one_order_while_training_and_torch_is_left_as_it_was(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    trainer, asked = warmup_trainer(vocabulary, tmp_path, (4, 1)), AskTorch()
    trainer.add_callback(asked)
    trainer.train()
    assert asked.deterministic and not torch.are_deterministic_algorithms_enabled()


@pytest.mark.filterwarnings("ignore:.*a tied layer is part of the adapter:UserWarning")
def test_adapters_on_weights_that_a_model_uses_twice_are_refused() -> None:
    """Merged into a head that is the embedding too, they would make another model."""
    for target in ("lm_head", "embed_tokens"):
        tied = random_model(1)
        tied.config.tie_word_embeddings = True
        tied.tie_weights()
        with pytest.raises(ModelError, match="would change both when they are merged"):
            with_lora(tied, LoraSection(r=2, target_modules=[target]))
    assert with_lora(random_model(1), LoraSection(r=2, target_modules=["lm_head"]))
