"""Distilling on what the rollouts hold: student completions as the teacher corrected them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_run import small_recipe
from transformers import AutoTokenizer

from warmup_distill.errors import DataError, RecipeError
from warmup_distill.models.loading import BUNDLED
from warmup_distill.pipeline import opened, run, run_stage
from warmup_distill.planning.page import plan
from warmup_distill.recipe import Recipe
from warmup_distill.stages import distilling
from warmup_distill.training.fit import fit

SECTION: dict[str, Any] = {"max_steps": 2, "max_length": 128, "completions": {"source": "rollouts"}}


def recipe(**distill: Any) -> Recipe:
    return small_recipe(
        distill=SECTION | distill, warmup={"max_steps": 1, "watch": {"prompts": 0}},
        rollouts={"num_samples": 4, "max_new_tokens": 48, "limit": 8}, evaluate={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def rolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to its warm-up."""
    folder = tmp_path_factory.mktemp("corrected") / "run"
    with opened(recipe(), folder) as session:
        for stage in ("prompts", "rollouts", "pairs", "warmup"):
            run_stage(session, stage)
    return folder


@pytest.fixture
def folder(rolled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rolled, tmp_path / "run"))


def table(folder: Path, stage: str) -> list[dict[str, Any]]:
    paths = sorted((folder / stage).glob("part-*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def distil(folder: Path, monkeypatch: pytest.MonkeyPatch, **distill: Any) -> list[dict[str, Any]]:
    """Run `distill`; returns its rows."""
    seen: list[Any] = []

    def watching(trainer: Any, model: Any, rows: Any, *more: Any, **named: Any) -> Any:
        seen.extend(rows)
        return fit(trainer, model, rows, *more, **named)

    monkeypatch.setattr(distilling, "fit", watching)
    with opened(recipe(**distill), folder, redo=True, stage="distill") as session:
        run_stage(session, "distill")
    return seen


def entry(folder: Path, stage: str) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = manifest["stages"][stage]
    return found


def corrected(row: dict[str, Any]) -> list[int]:
    """By hand: own tokens up to the mismatch, and the teacher's."""
    cut = row["mismatch_index"]
    ids: list[int] = row["completion_ids"]
    return ids if cut is None else ids[:cut] + row["continuation_ids"]


def test_the_rows_are_the_corrected_completions_of_every_prompt_rolled_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = distil(folder, monkeypatch)
    prompts = {row["prompt_id"]: row["prompt_ids"] for row in table(folder, "prompts")}
    rollouts = table(folder, "rollouts")
    assert len(rollouts) == len(rows) == 8 * 4
    assert [row["completion_ids"] for row in rows] == [corrected(row) for row in rollouts]
    assert [row["prompt_ids"] for row in rows] == [prompts[row["prompt_id"]] for row in rollouts]
    end = AutoTokenizer.from_pretrained(BUNDLED / "student").eos_token_id
    cut = [r["mismatch_index"] is not None for r in rollouts]
    assert any(cut) and not all(cut)
    for row, rollout in zip(rows, rollouts, strict=True):
        last = (
            "finish_reason" if rollout["mismatch_index"] is None else "continuation_finish_reason"
        )
        assert (row["completion_ids"][-1] == end) == (rollout[last] == "eos")
    found = entry(folder, "distill")
    assert found["counts"] == {
        "rows": 32, "steps": 2, "left_out": 0, "dropped": {"verifier": 0},
    }  # fmt: skip
    assert found["uses"] == ["warmup", "rollouts"]


def test_the_verifier_leaves_out_what_is_wrong_and_counts_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"source": "rollouts", "verifier": "right"}
    rows = distil(folder, monkeypatch, completions=settings)
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "student")
    answers = {row["prompt_id"]: row["answer"] for row in table(folder, "prompts")}
    right = []
    for row in table(folder, "rollouts"):
        text = tokenizer.decode(corrected(row), skip_special_tokens=True)
        found = re.search(r"#### (-?[\d.,]+)", text)
        if found and found[1].replace(",", "").rstrip(".") == answers[row["prompt_id"]]:
            right.append(corrected(row))
    assert 0 < len(right) < 32
    assert [row["completion_ids"] for row in rows] == right
    assert entry(folder, "distill")["counts"]["dropped"] == {"verifier": 32 - len(right)}


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "sft"},
        {"objective": "reverse_kl", "cross_entropy_weight": 0.5},
        {"objective": "taid"},
        {"teacher_signal": "hidden", "objective": "jensen_shannon"},
        {"teacher_signal": "top_k"},
        {"completions": {"source": "rollouts", "student_share": 0.5}},
        {"completions": {"source": "rollouts", "adaptive": {"validation_rows": 20}}},
    ],
    ids=str,
)
def test_they_serve_every_kind_of_distillation(
    settings: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = distil(folder, monkeypatch, **settings)
    assert len(rows) == (12 if "adaptive" in str(settings) else 32)
    assert entry(folder, "distill")["counts"]["steps"] == 2


def test_a_verifier_that_leaves_nothing_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmup_distill.training.data.is_right", lambda *_: False)
    with pytest.raises(DataError, match="all 32 corrected completions are wrong"):
        distil(folder, monkeypatch, completions={"source": "rollouts", "verifier": "right"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": {"keep_layers": [0], "completions": {"source": "rollouts"}}}, "before there is"),
        ({"distill": {"completions": {"verifier": "right"}}}, "without `source: rollouts`"),
        ({"distill": {"completions": {"source": "rollouts", "student_share": 1}}}, "no effect"),
        ({"distill": {"completions": {"source": "rollouts", "max_new_tokens": 9}}}, "on rollouts"),
        ({"prompts": {"file": "x.jsonl"},
          "distill": {"completions": {"source": "rollouts", "verifier": "right"}}},
         "without `prompts.answer_column`"),
    ],
)  # fmt: skip
def test_what_would_have_no_effect_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((RecipeError, ValueError), match=message):
        small_recipe(**changes)


def test_no_reference_is_needed_and_the_plan_counts_the_rows(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"Ava has {i} cups and buys 3 more."}) for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    changes: dict[str, Any] = {"prompts": {"file": str(tmp_path / "rows.jsonl")}, "control": False}
    planned = small_recipe(distill={"completions": {"source": "rollouts"}}, **changes)
    text, problems = plan(planned, tmp_path / "run", measured=False)
    assert problems == []
    (length,) = map(int, re.findall(r"prompts +6 from .*: (\d+) to \1 tokens", text))
    # six prompts of one length, four samples each of up to 64 tokens
    assert f"{6 * 4 * (length + 64):,} to distil on" in text
    few = small_recipe(
        distill=SECTION, evaluate={}, rollouts={"num_samples": 2, "max_new_tokens": 24},
        warmup={"max_steps": 1, "watch": {"prompts": 0}}, **changes,
    )  # fmt: skip
    folder = run(few, tmp_path / "run")
    assert entry(folder, "distill")["counts"]["rows"] == 12
