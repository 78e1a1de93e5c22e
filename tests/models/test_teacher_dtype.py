"""A teacher in another dtype than the student, counted wherever the teacher counts."""

from pathlib import Path
from typing import Any

import naive
import pytest
import torch
from test_run import small_recipe
from transformers import AutoModelForCausalLM

from warmup_distill.models.loading import BUNDLED
from warmup_distill.pipeline import opened, run_stage
from warmup_distill.recipe import Recipe
from warmup_distill.records import Prompt, Rollout
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_parts
from warmup_distill.store.fingerprints import changed_fields


def recipe(**changes: Any) -> Recipe:
    rollouts = {"num_samples": 2, "max_new_tokens": 64, "stop_at_mismatch": False}
    return small_recipe(rollouts=rollouts, **changes)


def roll_out(asked: Recipe, folder: Path, **how: Any) -> list[Rollout]:
    with opened(asked, folder, **how) as session:
        for stage in ("prompts", "rollouts"):
            run_stage(session, stage)
    return list(read_parts(folder / "rollouts", Rollout))


def test_the_teacher_s_dtype_counts_for_all_stages_that_ask_it(tmp_path: Path) -> None:
    one, other = (
        Session(tmp_path, recipe(teacher_dtype=dtype)).fingerprints for dtype in (None, "bfloat16")
    )
    assert {stage for stage in one if one[stage] == other[stage]} == {"prompts"}


def test_how_a_teacher_is_spread_counts_for_nothing(tmp_path: Path) -> None:
    spread = recipe(teacher_device_map="auto")
    assert changed_fields(recipe(), spread) == {}
    assert Session(tmp_path, spread).fingerprints == Session(tmp_path, recipe()).fingerprints
    assert Session(tmp_path, spread).teacher_ref.device_map == "auto"
    assert Session(tmp_path, spread).ref("bundled:student").device_map is None


def test_a_student_is_never_spread() -> None:
    with pytest.raises(ValueError, match="student_device_map"):
        recipe(student_device_map="auto")


def test_another_dtype_of_the_teacher_checks_the_same_samples_again(tmp_path: Path) -> None:
    before = roll_out(recipe(), tmp_path)
    after = roll_out(recipe(teacher_dtype="bfloat16"), tmp_path, redo=True)
    for name in ("completion_ids", "student_logprobs"):
        assert [getattr(r, name) for r in before] == [getattr(r, name) for r in after]
    teacher = AutoModelForCausalLM.from_pretrained(BUNDLED / "teacher", dtype=torch.bfloat16).eval()
    prompts = {p.prompt_id: p.prompt_ids for p in read_parts(tmp_path / "prompts", Prompt)}
    size = Session(tmp_path, recipe()).vocabulary.size
    apart = []
    for rollout in after:
        prompt, ids = prompts[rollout.prompt_id], rollout.completion_ids
        with torch.no_grad():
            logits = naive.completion_logits(teacher, prompt, ids)[:, :size].float()
        expected = logits.log_softmax(-1)[range(len(ids)), ids]
        apart.append((expected - torch.tensor(rollout.teacher_logprobs)).abs())
    assert torch.cat(apart).mean() < 0.05
    assert [r.teacher_logprobs for r in before] != [r.teacher_logprobs for r in after]
