"""What a training would find too late is found by `plan` and before a run writes anything."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_run import small_recipe

from warmup_distill.errors import WarmupDistillError
from warmup_distill.models.loading import BUNDLED
from warmup_distill.pipeline import run
from warmup_distill.planning.page import plan
from warmup_distill.recipe import Recipe


def rows(folder: Path, *references: str | None) -> dict[str, Any]:
    """A file of prompts of some 20 tokens, as a section of a recipe."""
    lines = [
        json.dumps({"prompt": f"Ava has {i} cups and buys 3 more.", "reference": reference})
        for i, reference in enumerate(references)
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {"file": str(folder / "rows.jsonl"), "reference_column": "reference"}


def student_without_end(folder: Path) -> str:
    copy = Path(shutil.copytree(BUNDLED / "student", folder / "student"))
    path = copy / "tokenizer_config.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(known | {"eos_token": None}), encoding="utf-8")
    for name in ("chat_template.jinja", "special_tokens_map.json"):
        (copy / name).unlink(missing_ok=True)
    return str(copy)


CASES: dict[str, Any] = {
    "max_length is too small for every prompt": (
        lambda folder: {"distill": {"max_length": 5}}, "fit into 5 tokens"
    ),
    "the same for what heals a cut student": (
        lambda folder: {"cut": {"keep_layers": [0], "max_length": 5}}, "fit into 5 tokens"
    ),
    "the same where the teacher completes": (
        lambda folder: {"distill": {"max_length": 5, "completions": {"source": "teacher"}}},
        "fit into 5 tokens",
    ),
    "the same where the student completes": (
        lambda folder: {"distill": {"max_length": 5, "completions": {"student_share": 1}}},
        "fit into 5 tokens",
    ),
    "no row has a reference": (
        lambda folder: {"prompts": rows(folder, None, None)}, "reference",
    ),
    "a reference is longer than the models read": (
        lambda folder: {"prompts": rows(folder, "cups " * 400), "distill": {"max_length": 999}},
        "Set max_length to 256 or less",
    ),
    "a drawn completion is": (
        lambda folder: {"distill": {"completions": {"source": "teacher", "max_new_tokens": 250}}},
        "the models read 256 together",
    ),
    "the student's tokenizer has no end": (
        lambda folder: {"student": student_without_end(folder),
                        "prompts": rows(folder, "three") | {"format": "text"}},
        "end-of-sequence",
    ),
    "all rows with a reference are held out": (
        lambda folder: {"prompts": rows(folder, "three", None, None),
                        "distill": {"completions": {"adaptive": {"validation_rows": 1}}}},
        "there are only 1",
    ),
    "a benchmark's prompt and completion are too long": (
        lambda folder: {"evaluate": {"benchmarks": [
            {"name": "b", "dataset": "bundled:problems", "limit": 2, "max_new_tokens": 250}]}},
        "tokens",
    ),
    "a benchmark's completion alone is": (
        lambda folder: {"evaluate": {"benchmarks": [
            {"name": "b", "dataset": "bundled:problems", "limit": 2, "max_new_tokens": 999}]}},
        "leave no room for prompts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_stage_would_find_is_found_ahead(name: str, tmp_path: Path) -> None:
    changes, message = CASES[name]
    recipe: Recipe = small_recipe(**changes(tmp_path))
    _, problems = plan(recipe, tmp_path / "run", measured=False)
    assert any(message in problem for problem in problems), problems
    with pytest.raises(WarmupDistillError, match=message):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_references_that_are_cut_are_no_fault(tmp_path: Path) -> None:
    recipe = small_recipe(prompts=rows(tmp_path, "cups " * 400, "three"))  # max_length is 128
    assert plan(recipe, tmp_path / "run", measured=False)[1] == []
