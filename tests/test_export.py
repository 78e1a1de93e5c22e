"""What other programs get: the three export formats, and the Python way into TRL."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from warmup_distill import build_pairs, build_rollouts
from warmup_distill.exporting import export_pairs
from warmup_distill.models.loading import BUNDLED
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import dump_recipe
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.store.artifacts import write_records

QUESTIONS = [
    "Ava has 27 cups. Ben has 32 more than Ava. How many cups do they have together?",
    "Ida buys 8 boxes of 6 pens and gives 13 of them to Leo. How many pens does Ida have left?",
    "Dan has 43 pens. Dan finds 36 more and gives 51 to Kim. How many pens does Dan have now?",
]

RECIPE = Recipe.model_validate(
    {
        "teacher": "bundled:teacher",
        "student": "bundled:student",
        "prompts": {"dataset": "bundled:problems", "limit": 3},
    }
)


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any, Any]:
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(BUNDLED / name) for name in ("student", "teacher")
    )
    return student, teacher, AutoTokenizer.from_pretrained(BUNDLED / "student")


@pytest.fixture(scope="module")
def dataset(models: tuple[Any, Any, Any]) -> Dataset:
    rollouts = build_rollouts(*models, QUESTIONS, num_samples=8, max_new_tokens=80)
    return build_pairs(rollouts)


@pytest.fixture(scope="module")
def folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with these pairs, the first of which was cut off."""
    folder = tmp_path_factory.mktemp("run")
    names = [field.name for field in fields(Pair)]
    pairs = [Pair(**{name: row[name] for name in names}) for row in dataset]
    prompts = [
        Prompt(prompt_id=f"prompt-{i:06d}", prompt_ids=[0], text=text, reference=None, answer=None)
        for i, text in enumerate(QUESTIONS)
    ]
    rollouts = [
        Rollout(
            prompt_id=pair.prompt_id, sample_index=pair.sample_index,
            completion_ids=pair.rejected_ids, student_logprobs=[], teacher_logprobs=[],
            mismatch_index=pair.mismatch_index, margin=5.0,
            continuation_ids=pair.chosen_ids[pair.mismatch_index :],
            continuation_ref_logprobs=[], finish_reason="length" if i == 0 else "eos",
            continuation_finish_reason="eos",
        )
        for i, pair in enumerate(pairs)
    ]  # fmt: skip
    (folder / "recipe.yaml").write_text(dump_recipe(RECIPE), encoding="utf-8")
    write_records(folder / "pairs/part-00000.parquet", Pair, pairs)
    write_records(folder / "prompts/part-00000.parquet", Prompt, prompts)
    write_records(folder / "rollouts/part-00000.parquet", Rollout, rollouts)
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pairs_that_were_cut_off_are_left_out(folder: Path, dataset: Dataset) -> None:
    path, written, left_out = export_pairs(folder, "trl")
    assert (written, left_out) == (len(dataset) - 1, 1) == (len(lines(path)), 1)


def test_trl_rows_are_prompt_chosen_rejected(folder: Path, dataset: Dataset) -> None:
    path, _, _ = export_pairs(folder, "trl")
    expected = {name: dataset[1][name] for name in ("prompt", "chosen", "rejected")}
    assert lines(path)[0] == expected
    assert expected["prompt"].startswith("<|user|>") and "<|end|>" not in expected["chosen"]


def test_openrlhf_rows_are_two_conversations(folder: Path, dataset: Dataset) -> None:
    path, _, _ = export_pairs(folder, "openrlhf")
    row = lines(path)[0]
    assert [turn["role"] for turn in row["chosen"]] == ["user", "assistant"]
    assert row["chosen"][0] == row["rejected"][0] and row["chosen"][0]["content"] in QUESTIONS
    assert row["chosen"][1]["content"] == dataset[1]["chosen"]


def test_llama_factory_rows_come_with_their_dataset_info(folder: Path) -> None:
    path, written, _ = export_pairs(folder, "llama-factory")
    rows = json.loads(path.read_text(encoding="utf-8"))
    info = json.loads((path.parent / "dataset_info.json").read_text(encoding="utf-8"))
    columns = info["warmup_distill"]["columns"]
    assert info["warmup_distill"]["ranking"] and info["warmup_distill"]["file_name"] == path.name
    assert len(rows) == written and set(columns.values()) == set(rows[0])


def test_exported_text_is_the_tokens_that_were_sampled(
    models: tuple[Any, Any, Any], dataset: Dataset
) -> None:
    """Byte-level tokens survive the way through text here; ids stay the truth elsewhere."""
    tokenizer = models[2]
    same = [
        tokenizer(row["rejected"], add_special_tokens=False)["input_ids"]
        == [id_ for id_ in row["rejected_ids"] if id_ != tokenizer.eos_token_id]
        for row in dataset
    ]
    assert sum(same) >= 0.9 * len(same)


def test_trl_trains_on_the_dataset_as_it_is(
    models: tuple[Any, Any, Any], dataset: Dataset, tmp_path: Path
) -> None:
    trl = pytest.importorskip("trl")
    student, _, tokenizer = models
    trainer = trl.DPOTrainer(
        model=student,
        ref_model=AutoModelForCausalLM.from_pretrained(BUNDLED / "student"),
        args=trl.DPOConfig(
            output_dir=str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=2,
            learning_rate=1e-4,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            dataloader_pin_memory=False,
        ),
        train_dataset=dataset.select_columns(["prompt", "chosen", "rejected"]),
        processing_class=tokenizer,
    )
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == 3 and losses[0] == pytest.approx(0.6931, abs=1e-3)
