"""A run on models whose tokenizer ends in another token than their chat template."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from warmup_distill.errors import DataError, RecipeError
from warmup_distill.models.loading import BUNDLED
from warmup_distill.pipeline import opened, preflight, run_stage
from warmup_distill.planning.facts import gather
from warmup_distill.recipe import Recipe
from warmup_distill.records import Prompt
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_parts
from warmup_distill.training.data import reference_rows

PAD, END = 0, 1
ROWS = [
    {"q": "What is 1 + 1?", "a": "#### 2"},
    {"q": "In HTML?<|end|>", "a": "a<|end|>b"},
    {"q": "What is 2 + 2?", "a": " "},
    {"q": "What is 3 + 3?", "a": None},
]


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled pair, whose student knows no end but `<|pad|>`, and four rows."""
    base = tmp_path_factory.mktemp("ends")
    for role in ("student", "teacher"):
        shutil.copytree(BUNDLED / role, base / role)
    change(base / "student/tokenizer_config.json", eos_token="<|pad|>")
    for name in ("config", "generation_config"):
        change(base / f"student/{name}.json", eos_token_id=PAD)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (base / "rows.jsonl").write_text(lines, encoding="utf-8")
    return base


def recipe(base: Path, **changes: Any) -> Recipe:
    one = {"max_steps": 1, "max_length": 64}
    values: dict[str, Any] = {
        "teacher": str(base / "teacher"),
        "student": str(base / "student"),
        "control": True,
        "prompts": {
            "file": str(base / "rows.jsonl"), "prompt_column": "q", "reference_column": "a",
        },
        "cut": {"keep_layers": [0, 1, 2], "heal": False},
        "rollouts": {"num_samples": 2, "max_new_tokens": 24},
        "warmup": {"max_steps": 1, "watch": {"prompts": 0}},
        "distill": one,
    }  # fmt: skip
    return Recipe.model_validate(values | changes)


@pytest.fixture(scope="module")
def folder(base: Path) -> Path:
    with opened(recipe(base), base / "run") as session:
        for stage in ("prompts", "cut", "rollouts", "pairs", "warmup", "distill", "control"):
            run_stage(session, stage)
    return base / "run"


def test_references_end_as_a_turn_does_and_nowhere_else(base: Path, folder: Path) -> None:
    session = Session(folder, recipe(base))
    prompts = list(read_parts(folder / "prompts", Prompt))
    rows = reference_rows(prompts, session.renderer, 64)
    assert [session.tokenizer.decode(row["completion_ids"]) for row in rows] == [
        "#### 2<|end|>", "a<|end|>b<|end|>",
    ]  # fmt: skip
    for row in rows:
        assert row["completion_ids"].count(END) == 1 and PAD not in row["completion_ids"]


@pytest.mark.parametrize("name", ["cut", "warmup", "distill", "control"])
def test_what_counted_as_an_end_is_saved_with_every_model(name: str, folder: Path) -> None:
    saved = json.loads((folder / name / "generation_config.json").read_text(encoding="utf-8"))
    assert (saved["eos_token_id"], saved["pad_token_id"]) == ([PAD, END], PAD)
    loaded = AutoModelForCausalLM.from_pretrained(folder / name)
    assert loaded.generation_config.eos_token_id == [PAD, END]


def test_so_is_it_with_a_student_that_needed_no_warm_up(base: Path) -> None:
    given = recipe(base, cut=None, rollouts={"num_samples": 1, "max_new_tokens": 9,
                                             "margin_threshold": 1000.0})  # fmt: skip
    with opened(given, base / "no-pairs") as session:
        for stage in ("prompts", "rollouts", "pairs", "warmup"):
            run_stage(session, stage)
    path = base / "no-pairs/warmup/generation_config.json"
    assert json.loads(path.read_text(encoding="utf-8"))["eos_token_id"] == [PAD, END]


def test_rows_without_a_reference_are_counted(folder: Path) -> None:
    stages = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    assert stages["prompts"]["counts"]["without_reference"] == 2
    assert stages["distill"]["counts"]["left_out"] == 2


def test_a_benchmark_s_rows_must_have_what_they_are_held_to(base: Path) -> None:
    benchmark = {"name": "mine", "file": str(base / "rows.jsonl"), "prompt_column": "q"}
    for metric, column in (("rouge_l", "reference_column"), ("accuracy", "answer_column")):
        given = recipe(base, evaluate={"benchmarks": [benchmark | {"metric": metric, column: "a"}]})
        session = Session(base / "nowhere", given)
        with pytest.raises(DataError, match=r"benchmark mine: .* row rows-000003 has none"):
            preflight(session)
        assert any("rows-000003" in problem for problem in gather(session).problems)


def test_a_plan_says_how_many_references_are_missing(base: Path) -> None:
    facts = gather(Session(base / "nowhere", recipe(base)))
    assert facts.problems == [] and facts.data and facts.data.without_reference == 2


@pytest.mark.parametrize(
    ("prompts", "pairs", "message"),
    [
        ({"format": "text", "system": "Be brief."}, {}, r"`system` and .* no effect on `format"),
        ({"chat_template_kwargs": {"x": None}}, {}, r"expected values that are not null"),
        ({"chat_template_kwargs": {"x": float("nan")}}, {}, r"got nan|values that JSON has"),
        ({"chat_template_kwargs": {"x": {1, 2}}}, {}, r"got nan|values that JSON has"),
        ({}, {"verifier": "not_worse"}, r"`pairs.verifier` has no effect without `prompts.answer"),
        ({}, {"min_reward_gain": 0.5}, r"`min_reward_gain` has no effect without"),
    ],
)
def test_a_recipe_s_settings_have_an_effect(
    prompts: dict[str, Any], pairs: dict[str, Any], message: str, base: Path
) -> None:
    known = recipe(base).model_dump(mode="json", exclude_none=True)["prompts"]
    with pytest.raises(ValueError, match=message):
        recipe(base, prompts=known | prompts, pairs=pairs)


def test_a_misspelt_template_setting_is_found_before_anything_is_written(base: Path) -> None:
    known = recipe(base).model_dump(mode="json", exclude_none=True)["prompts"]
    given = recipe(base, prompts=known | {"chat_template_kwargs": {"enable_thinkin": False}})
    with (
        pytest.raises(RecipeError, match="enable_thinkin has no effect"),
        opened(given, base / "misspelt"),
    ):
        pass
    assert not (base / "misspelt").exists()
    problems = gather(Session(base / "misspelt", given)).problems
    assert len(problems) == 1 and "enable_thinkin has no effect" in problems[0]
