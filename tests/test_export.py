"""What other programs get: the three export formats, and the Python way into TRL."""

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from warmup_distill import build_pairs, build_rollouts
from warmup_distill.exporting import export_pairs
from warmup_distill.models.loading import BUNDLED, load_tokenizer
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


@pytest.fixture
def other(folder: Path, tmp_path: Path) -> Path:
    """The same pairs, of a recipe with a system message and of a prompt with a control token."""
    copy = shutil.copytree(folder, tmp_path / "run")
    values = RECIPE.model_dump(mode="json", exclude_none=True)
    values["prompts"]["system"] = "Be brief."
    recipe = dump_recipe(Recipe.model_validate(values))
    (copy / "recipe.yaml").write_text(recipe, encoding="utf-8")
    prompts = [
        Prompt(prompt_id=f"prompt-{i:06d}", prompt_ids=[0], text=text, reference=None, answer=None)
        for i, text in enumerate(["What is <|end|>?", *QUESTIONS[1:]])
    ]
    write_records(copy / "prompts/part-00000.parquet", Prompt, prompts)
    return copy


@pytest.mark.parametrize("target", ["trl", "openrlhf", "llama-factory"])
def test_a_control_token_that_a_person_wrote_goes_to_no_other_program(
    target: str, other: Path, dataset: Dataset
) -> None:
    cut_off = dataset[0]["prompt_id"], dataset[0]["sample_index"]
    kept = [
        row
        for row in dataset
        if row["prompt_id"] != "prompt-000000"
        and (row["prompt_id"], row["sample_index"]) != cut_off
    ]
    path, written, left_out = export_pairs(other, target)
    assert (written, left_out) == (len(kept), len(dataset) - len(kept))
    assert "<|end|>" not in path.read_text(encoding="utf-8")


def test_a_system_message_goes_along(other: Path) -> None:
    path, _, _ = export_pairs(other, "openrlhf")
    assert lines(path)[0]["chosen"][0] == {"role": "system", "content": "Be brief."}
    path, _, _ = export_pairs(other, "llama-factory")
    info = json.loads((path.parent / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["warmup_distill"]["columns"]["system"] == "system"
    assert json.loads(path.read_text(encoding="utf-8"))[0]["system"] == "Be brief."


def test_trl_reads_the_prompt_s_own_ids_and_the_end_of_the_turn(
    models: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    """A tokenizer that adds a beginning which its template writes, and names another end."""
    student, teacher, _ = models
    tokenizer = load_tokenizer("bundled:student")
    tokenizer.add_special_tokens({"bos_token": "<|assistant|>", "eos_token": "<|pad|>"})
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|assistant|> $A", special_tokens=[("<|assistant|>", tokenizer.bos_token_id)]
    )
    student.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rollouts = build_rollouts(
        student, teacher, tokenizer, QUESTIONS, num_samples=4, max_new_tokens=80,
        margin_threshold=1.0,
    )  # fmt: skip
    dataset = build_pairs(rollouts)
    values = RECIPE.model_dump(mode="json", exclude_none=True)
    recipe = Recipe.model_validate(values | {"student": str(tmp_path / "model")})
    run = tmp_path / "run"
    shown = {"chosen": "#### 1", "rejected": "#### 2"}  # what people see has no control tokens
    names = [field.name for field in fields(Pair)]
    pairs = [Pair(**({name: row[name] for name in names} | shown)) for row in dataset]
    write_records(run / "pairs/part-00000.parquet", Pair, pairs)
    write_records(run / "prompts/part-00000.parquet", Prompt, rollouts.prompts)
    write_records(run / "rollouts/part-00000.parquet", Rollout, rollouts.rollouts)
    (run / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    path, written, _ = export_pairs(run, "trl")
    assert written == len(dataset) > 0
    for row, exported in zip(dataset, lines(path), strict=True):
        assert exported == {name: row[name] for name in ("prompt", "chosen", "rejected")}
        assert tokenizer(exported["prompt"])["input_ids"] == row["prompt_ids"]
        assert exported["chosen"].endswith("<|end|>"), "TRL adds `<|pad|>`, which ends no turn"
