"""From Python, without a run directory: every argument has an effect, or is refused by its name."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from tokenizers import processors
from transformers import LlamaConfig, LlamaForSequenceClassification, TrainingArguments

import warmup_distill
from warmup_distill import WarmupTrainer, build_pairs, build_rollouts
from warmup_distill.api import RolloutSet
from warmup_distill.errors import DataError, ModelError, RecipeError
from warmup_distill.models.loading import load_tokenizer

QUESTIONS = [
    "Ava has 27 cups. Ben has 32 more than Ava. How many cups do they have together?",
    "Dan has 43 pens. Dan finds 36 more and gives 51 to Kim. How many pens does Dan have now?",
]
ANSWERS = [86, 7]
"""Of which the second is wrong, so that no completion is right there."""
NAMES = ("bundled:student", "bundled:teacher", "bundled:student")


def roll(prompts: Any = QUESTIONS, **settings: Any) -> RolloutSet:
    return build_rollouts(*NAMES, prompts, **({"num_samples": 2, "max_new_tokens": 60} | settings))


@pytest.fixture(scope="module")
def rollouts() -> RolloutSet:
    return roll(num_samples=16, answers=ANSWERS, references=[f"#### {a}" for a in ANSWERS])


def test_prompts_are_taken_from_whatever_holds_texts() -> None:
    expected = roll().rollouts
    table = pd.DataFrame({"q": QUESTIONS})
    given = (iter(QUESTIONS), (q for q in QUESTIONS), table["q"], tuple(QUESTIONS),
             Dataset.from_pandas(table)["q"])  # fmt: skip
    for prompts in given:
        assert roll(prompts, answers=pd.Series(ANSWERS)).rollouts == expected


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("What is 2 + 2?", r"^prompts: expected a list of texts .* got str"),
        ({"q": "x"}, r"^prompts: expected a list of texts .* got dict"),
        ({"What?", "Why?"}, r"^prompts: expected a list of texts .* got set"),
        (pd.DataFrame({"q": ["x"]}), r"^prompts: expected a list of texts .* got DataFrame"),
        (7, r"^prompts: expected a list of texts .* got int"),
        ([], r"^prompts: expected texts, but there are none"),
        (["x", None], r"^prompts\[1\]: expected a text, got None"),
        (pd.Series(["x", float("nan")]), r"^prompts\[1\]: expected a text, got nan"),
        ([" \n"], r"^prompts\[0\]: expected a text"),
        ([{"role": "user", "content": "x"}], r"^prompts\[0\]: expected a text, got {"),
    ],
)
def test_prompts_that_are_no_texts_are_refused(prompts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        roll(prompts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"answers": [86]}, r"^answers: expected one for each of 2 prompts, got 1"),
        ({"references": "ab"}, r"^references: expected a list of texts"),
        ({"answers": [86, True]}, r"^answers\[1\]: expected text in column `answers`, or"),
        ({"num_sample": 4}, r"^num_sample: unknown key; did you mean num_samples\?"),
        ({"num_samples": 0}, r"^num_samples: .* greater than or equal to 1"),
        ({"prompts_per_part": 4}, r"^prompts_per_part has no effect here"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, r"enable_thinking has no effect"),
        ({"chat_template_kwargs": {"tools": []}}, r"chat_template_kwargs.tools"),
    ],
)
def test_a_setting_that_would_have_no_effect_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((DataError, RecipeError), match=message):
        roll(**settings)


def test_a_limit_takes_the_first_prompts() -> None:
    found = roll(limit=1)
    assert [prompt.text for prompt in found.prompts] == QUESTIONS[:1]
    first = [rollout.completion_ids for rollout in roll().rollouts[:2]]
    assert [rollout.completion_ids for rollout in found.rollouts] == first


def test_equal_seeds_draw_alike_whatever_their_type() -> None:
    found = [roll(seed=seed, limit=1).rollouts for seed in (2, np.int64(2))]
    assert [one.completion_ids for one in found[0]] == [one.completion_ids for one in found[1]]
    with pytest.raises(RecipeError, match=r"seed: expected a whole number, got 2\.5"):
        roll(seed=2.5, limit=1)


def test_a_system_message_is_a_turn_of_its_own() -> None:
    """The bundled template has no place for one but that of a user's turn."""
    found, plain = roll(system="Be brief.", limit=1), roll(limit=1)
    said = found.tokenizer.decode(found.prompts[0].prompt_ids)
    assert said == f"<|user|>Be brief.{plain.tokenizer.decode(plain.prompts[0].prompt_ids)}"


def test_counts_come_with_the_pairs(rollouts: RolloutSet) -> None:
    dataset = build_pairs(rollouts, max_per_prompt=3)
    counts = dataset.counts
    assert isinstance(dataset, Dataset) and len(dataset) == counts.pairs == 6
    assert counts.rollouts == 32 and counts.verdicts.total() == counts.mismatching
    assert counts.pairs + counts.dropped.total() == counts.mismatching


def test_filters_look_at_answers_and_references(rollouts: RolloutSet) -> None:
    every = build_pairs(rollouts)
    right = build_pairs(rollouts, verifier="chosen_right")
    assert 0 < len(right) < len(every)
    assert all(row["chosen"].rstrip().endswith("#### 86") for row in right)
    assert 0 < len(build_pairs(rollouts, rouge_l="not_worse")) < len(every)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"verifier": "chosen_right"}, r"^verifier has no effect without answers: give `build_rol"),
        ({"rouge_l": "not_worse"}, r"^rouge_l has no effect without references"),
        ({"min_reward_gain": 1.0}, r"`min_reward_gain` has no effect without a `reward_model`"),
        ({"verifier": "right"}, r"^verifier: .* got 'right'; did you mean chosen_right\?"),
    ],
)
def test_a_filter_that_has_nothing_to_look_at_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        build_pairs(roll(limit=1), **settings)


def test_a_reward_model_drops_what_it_likes_less(rollouts: RolloutSet, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reward_model: nope/x cannot be loaded"):
        build_pairs(rollouts, reward_model="nope/x")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = LlamaConfig(
        vocab_size=479, num_attention_heads=2, num_labels=1, pad_token_id=0, **shape
    )
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    rollouts.tokenizer.save_pretrained(tmp_path)
    counts = build_pairs(rollouts, reward_model=str(tmp_path)).counts
    assert 0 < counts.dropped["reward_model"] < counts.mismatching


def test_without_a_mismatch_there_are_columns_and_no_rows(rollouts: RolloutSet) -> None:
    empty = build_pairs(roll(margin_threshold=1000.0))
    assert len(empty) == 0 and empty.features == build_pairs(rollouts).features
    assert empty.counts.mismatching == 0 and empty.counts.rollouts == 4


def test_completions_that_were_cut_off_are_not_taught_to_stop_there() -> None:
    short = roll(num_samples=8, max_new_tokens=12)
    dropped, kept = build_pairs(short), build_pairs(short, truncated="keep")
    assert len(dropped) + dropped.counts.dropped["truncated"] == len(kept) > len(dropped)


def test_our_trainer_takes_the_pairs_with_every_loss(rollouts: RolloutSet, tmp_path: Path) -> None:
    dataset = build_pairs(rollouts, truncated="keep").select(range(4))
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True,
        logging_steps=1, dataloader_pin_memory=False, save_strategy="no",
    )  # fmt: skip
    for loss, expected in (("sigmoid", 0.6931), ("ipo", 25.0)):  # (1 / 2β)² for ipo's gain of 0
        trainer = WarmupTrainer(model=NAMES[0], train_dataset=dataset, args=args, loss=loss)
        trainer.train()
        assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-3)


def test_a_beginning_of_sequence_that_the_tokenizer_adds_is_not_in_the_text() -> None:
    tokenizer = load_tokenizer("bundled:student")
    tokenizer.add_special_tokens({"bos_token": "<|assistant|>"})  # any token that the models know
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|assistant|> $A", special_tokens=[("<|assistant|>", tokenizer.bos_token_id)]
    )
    rollouts = build_rollouts(
        *NAMES[:2], tokenizer, QUESTIONS, num_samples=8, max_new_tokens=60, margin_threshold=1.0
    )
    row = build_pairs(rollouts)[0]
    assert row["prompt_ids"][0] == tokenizer.bos_token_id
    assert not row["prompt"].startswith("<|assistant|>")
    assert tokenizer(row["prompt"])["input_ids"] == row["prompt_ids"]


def test_a_control_token_in_a_prompt_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    found = roll([f"{QUESTIONS[0]} <|end|>"], num_samples=8, margin_threshold=1.0)
    with caplog.at_level(logging.WARNING, logger="warmup_distill"):
        dataset = build_pairs(found)
    assert len(dataset) and "pairs have a control token in their prompt" in caplog.text
    assert found.tokenizer.eos_token_id not in dataset[0]["prompt_ids"]


def test_a_run_takes_a_recipe_as_a_dict_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="what is given is not a valid recipe:\n  teacher: requ"):
        warmup_distill.run({"student": "x", "prompts": {"file": "x"}}, tmp_path / "run")
    with pytest.raises(RecipeError, match=r"expected a recipe .* at nowhere\.yaml"):
        warmup_distill.run("nowhere.yaml", tmp_path / "run")
    with pytest.raises(RecipeError, match=r"^recipe: expected what `load_recipe` returns, .* int"):
        warmup_distill.run(7, tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
