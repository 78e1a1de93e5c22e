"""The trainers in a script of one's own: what `transformers.Trainer` takes, they take."""

import math
from pathlib import Path
from typing import Any

import naive
import pytest
import torch
from conftest import random_model
from datasets import Dataset
from peft import LoraConfig
from test_training import ROWS, pairs
from transformers import TrainerCallback, TrainingArguments

from warmup_distill import Vocabulary
from warmup_distill.errors import DataError, ModelError, RecipeError
from warmup_distill.models.loading import load_model, load_tokenizer
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.warmup import WarmupTrainer


def arguments(folder: Path, **more: Any) -> TrainingArguments:
    """Those of a script that says no more than it must."""
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "logging_steps": 1}
    memory = {"dataloader_pin_memory": False, "save_strategy": "no"}
    return TrainingArguments(
        output_dir=str(folder), **(quiet | memory | {"max_steps": 2, "learning_rate": 1e-2} | more)
    )


def distilling(folder: Path, vocabulary: Vocabulary, **settings: Any) -> DistillTrainer:
    given = {"model": random_model(1), "teacher": random_model(2), "vocabulary": vocabulary,
             "args": arguments(folder), "train_dataset": Dataset.from_list(ROWS)}  # fmt: skip
    return DistillTrainer(**(given | settings))


def warming(folder: Path, vocabulary: Vocabulary, **settings: Any) -> WarmupTrainer:
    given = {"model": random_model(3), "vocabulary": vocabulary, "args": arguments(folder),
             "train_dataset": Dataset.from_list(pairs())}  # fmt: skip
    return WarmupTrainer(**(given | settings))


BUILDERS = [distilling, warming]
build_either = pytest.mark.parametrize("build", BUILDERS)


def losses(trainer: Any) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@build_either
def test_columns_that_no_trainer_reads_change_nothing(
    build: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    plain = build(tmp_path, vocabulary)
    plain.train()
    with_texts = [dict(row) | {"prompt": "p"} for row in plain.train_dataset]
    for rows in (Dataset.from_list(with_texts), with_texts):
        other = build(tmp_path, vocabulary, train_dataset=rows)
        other.train()
        assert losses(other) == losses(plain)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_loss_of_held_out_rows_is_a_mean_over_all_their_tokens(
    batch_size: int, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    trainer = distilling(
        tmp_path, vocabulary, objective="sft", teacher=None,
        args=arguments(tmp_path, per_device_eval_batch_size=batch_size),
    )  # fmt: skip
    found = trainer.evaluate(Dataset.from_list(ROWS))["eval_loss"]
    with torch.no_grad():
        each = [
            naive.logprobs(random_model(1), row["prompt_ids"], row["completion_ids"])
            for row in ROWS
        ]
    assert found == pytest.approx(-float(torch.cat(each).mean()), abs=1e-5)


def test_held_out_pairs_have_a_loss_and_an_accuracy(vocabulary: Vocabulary, tmp_path: Path) -> None:
    trainer = warming(tmp_path, vocabulary, eval_dataset=Dataset.from_list(pairs()))
    found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert found["eval_accuracy"] == 0.0
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < math.log(2) and trainer.evaluate()["eval_accuracy"] > 0


@build_either
def test_evaluating_meanwhile_leaves_the_training_as_it_is(
    build: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    rows = Dataset.from_list(ROWS if build is distilling else pairs())
    logs = []
    for more in ({}, {"eval_strategy": "steps", "eval_steps": 1}):
        trainer = build(
            tmp_path, vocabulary, eval_dataset=rows, args=arguments(tmp_path, max_steps=3, **more)
        )
        trainer.train()
        lines = [line for line in trainer.state.log_history if "loss" in line]
        logs.append([{k: v for k, v in line.items() if k != "epoch"} for line in lines])
    assert logs[0] == logs[1]


@build_either
def test_the_best_model_is_loaded_at_the_end(
    build: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """A learning rate so high that the first step is the best or the last one is not."""
    each = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = build(
        tmp_path, vocabulary, eval_dataset=Dataset.from_list((ROWS if build is distilling else
        pairs())[:1]), args=arguments(
            tmp_path, max_steps=4, learning_rate=0.3, load_best_model_at_end=True, **each
        ),
    )  # fmt: skip
    trainer.train()
    seen = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    assert len(seen) == 4 and trainer.evaluate()["eval_loss"] == pytest.approx(min(seen), rel=1e-5)


@build_either
def test_adapters_train_and_the_weights_below_them_stay(
    build: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    results = []
    for number in range(2):
        torch.manual_seed(number)
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        trainer = build(tmp_path, vocabulary, peft_config=config)
        trainer.train()
        results.append({n: p.detach() for n, p in trainer.model.named_parameters()})
    base = random_model(1 if build is distilling else 3)
    before = torch.cat([p.flatten() for p in base.parameters()])
    after = torch.cat([p.flatten() for n, p in results[0].items() if "lora" not in n])
    assert torch.equal(before, after)
    assert any(p.any() for n, p in results[0].items() if "lora_B" in n), "the adapters have learnt"
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 4}, r"^peft_config: expected one of peft's, such as LoraConfig\(r=16\), got \{'r'"),
        (LoraConfig(target_modules=["nope"]), r"^peft_config does not fit the model: .*nope"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(
    config: Any, message: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        warming(tmp_path, vocabulary, peft_config=config)


class Asking(TrainerCallback):
    """Reads the policy as any script would, between two steps."""

    def __init__(self) -> None:
        self.logits: list[torch.Tensor] = []
        self.expected: list[torch.Tensor] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        ids = torch.tensor([[5, 6, 7]])
        copy = random_model(1)
        copy.load_state_dict(model.state_dict())
        with torch.no_grad():
            self.logits.append(model(input_ids=ids).logits)
            self.expected.append(copy(input_ids=ids).logits)
        assert model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] > 3


@build_either
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_callback_finds_an_ordinary_model(
    build: Any, checkpointing: bool, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    asking = Asking()
    args = arguments(tmp_path, activation_checkpointing=checkpointing)
    build(tmp_path, vocabulary, callbacks=[asking], args=args).train()
    torch.testing.assert_close(asking.logits, asking.expected, atol=1e-5, rtol=1e-5)


def test_models_come_by_name_and_their_tokenizer_says_which_tokens_count(tmp_path: Path) -> None:
    row = {"prompt_ids": [5, 6, 7], "completion_ids": [8, 9, 1]}
    more = {"args": arguments(tmp_path), "train_dataset": Dataset.from_list([row])}
    trainer = DistillTrainer(model="bundled:student", teacher="bundled:teacher", **more)
    assert (trainer.vocabulary.size, trainer.vocabulary.eos_ids) == (479, {1})
    trainer.train()
    loaded = load_model("bundled:student")
    for tokenizer in ("bundled:student", load_tokenizer("bundled:student")):
        one = DistillTrainer(model=loaded, objective="sft", processing_class=tokenizer, **more)
        assert one.vocabulary == trainer.vocabulary
    with pytest.raises(ModelError, match=r"^teacher: nope/x cannot be loaded"):
        DistillTrainer(model=loaded, teacher="nope/x", **more)
    with pytest.raises(ModelError, match=r"give `processing_class=tokenizer`, or `vocabulary=`"):
        DistillTrainer(model=random_model(1), objective="sft", **more)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "dpo"}, r"^loss: .* got 'dpo'; did you mean sigmoid\?"),
        ({"loss": "simpoo"}, r"^loss: .*did you mean simpo\?"),
        ({"beta": -1.0}, r"^beta: .* greater than 0"),
        ({"options": {"gamma": 1.0}}, r"`gamma` has no effect on the loss `sigmoid`"),
        ({"options": {"learning_rate": 0.1}}, r"options.learning_rate has no effect"),
        ({"options": {"smoothing": 0.1}}, r"smoothing: unknown key"),
    ],
)
def test_a_wrong_setting_of_the_warmup_is_named(
    settings: dict[str, Any], message: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        warming(tmp_path, vocabulary, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "jsd"}, r"^objective: .* did you mean jensen_shannon\?"),
        ({"objective": "kl"}, r"^objective: .* did you mean forward_kl\?"),
        ({"teacher": None}, r"^teacher: the objective forward_kl needs one"),
        ({"temperature": 0.0}, r"^temperature: .* greater than 0"),
        ({"options": {"skew": 0.1}}, r"`options.skew` has no effect on the objective"),
    ],
)
def test_a_wrong_setting_of_the_distillation_is_named(
    settings: dict[str, Any], message: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        distilling(tmp_path, vocabulary, **settings)


@build_either
def test_what_only_the_plain_trainer_uses_is_refused(
    build: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="^compute_metrics has no effect here"):
        build(tmp_path, vocabulary, compute_metrics=lambda found: {})
    with pytest.raises(RecipeError, match=r"^args.label_smoothing_factor has no effect here"):
        build(tmp_path, vocabulary, args=arguments(tmp_path, label_smoothing_factor=0.1))


@pytest.mark.parametrize("argument", ["train_dataset", "eval_dataset"])
@build_either
def test_other_columns_are_named_with_the_argument(
    build: Any, argument: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    texts = [{"prompt": "a", "completion": "b"}]
    for rows in (Dataset.from_list(texts), texts):
        with pytest.raises(DataError, match=rf"^{argument}: expected the columns prompt_ids, "):
            build(tmp_path, vocabulary, **{argument: rows})
    with pytest.raises(DataError, match="prefix_ref_logprob is not among"):
        rows = Dataset.from_list(pairs()).remove_columns("prefix_ref_logprob")
        warming(tmp_path, vocabulary, loss="ipo", train_dataset=rows)
