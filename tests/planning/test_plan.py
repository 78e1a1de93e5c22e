"""`plan`: one page, all problems at once, nothing written and no weights loaded."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from test_run import small_recipe
from transformers import PreTrainedModel

from warmup_distill.cli.main import main
from warmup_distill.models.loading import BUNDLED
from warmup_distill.pipeline import opened, run_stage
from warmup_distill.planning.costs import Costs, Lengths
from warmup_distill.planning.facts import gather, model_facts
from warmup_distill.planning.page import plan
from warmup_distill.planning.work import totals
from warmup_distill.recipe.reading import dump_recipe
from warmup_distill.stages.session import Session

NO_LENGTHS = Lengths(
    prompt=0, samples=0, completion=0, continuation=0, pair=0, row=0, pairs_per_prompt=0
)
"""Of a plan without controls that are to cost so much."""


def test_the_page_says_what_a_run_would_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def on_meta_alone(kind: Any, *arguments: Any, **named: Any) -> Any:
        assert named["device_map"] == "meta", "weights were loaded"
        return loading(kind, *arguments, **named)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(on_meta_alone))
    page, problems = plan(small_recipe(), tmp_path / "run", measured=False)
    assert problems == [] and not (tmp_path / "run").exists()
    for part in ("bundled:teacher: llama, 0.8 M parameters", "12 from bundled:problems",
                 "<|user|>", "prompts to do", "at most 3,072 to sample", "free:"):  # fmt: skip
        assert part in page


def test_a_device_that_is_too_small_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _ = plan(small_recipe(), tmp_path / "run", measured=False)
    assert "which is less" not in page
    monkeypatch.setattr("warmup_distill.planning.page.device_memory", lambda: ("GPU", 2**29))
    page, problems = plan(small_recipe(), tmp_path / "run", measured=False)
    assert "GPU has 512 MiB, which is less: lower rollouts.batch_tokens" in page
    assert problems == []  # it is an estimate


def test_the_page_shows_what_is_done_and_what_would_be_redone(tmp_path: Path) -> None:
    with opened(small_recipe(), tmp_path / "run") as session:
        for stage in ("prompts", "rollouts", "pairs"):
            run_stage(session, stage)
    page, _ = plan(small_recipe(), tmp_path / "run", measured=False)
    assert "prompts complete, rollouts complete, pairs complete, warmup to do" in page
    other = small_recipe(pairs={"max_per_prompt": 1})
    page, _ = plan(other, tmp_path / "run", measured=False)
    assert "prompts complete, rollouts complete, pairs to be redone" in page


def test_measured_it_estimates_the_time_of_every_stage(tmp_path: Path) -> None:
    page, _ = plan(small_recipe(), tmp_path / "run", measured=True)
    (line,) = [line for line in page.splitlines() if line.startswith("time")]
    for stage in ("rollouts", "warmup", "distill", "control", "evaluate"):
        assert f"{stage} " in line


def test_times_are_those_of_everything_that_is_drawn_checked_and_trained(tmp_path: Path) -> None:
    recipe = small_recipe(
        prompts={"dataset": "bundled:problems", "limit": 30},
        rollouts={"num_samples": 4, "max_new_tokens": 64, "limit": 20},
        warmup={"num_train_epochs": 2, "per_device_train_batch_size": 10,
                "watch": {"prompts": 7, "steps": 4}},
        distill={"max_steps": 5, "per_device_train_batch_size": 8,
                 "gradient_accumulation_steps": 2, "max_length": 128,
                 "completions": {"student_share": 0.5}},
    )  # fmt: skip
    facts = gather(Session(tmp_path, recipe))
    costs = Costs(drawing=1.0, checking=10.0, pair=100.0, row=1000.0, pairs_per_prompt=3.0)
    distilled = 1000.0 * 80 + 1.0 * 40  # 5 steps of 16 rows, half of them drawn
    assert totals(recipe, facts, costs, NO_LENGTHS) == {
        "rollouts": 11.0 * 20 * 4,
        # 60 pairs twice, in 12 steps of 10: examined before and after steps 4, 8 and 12
        "warmup": 100.0 * 120 + 11.0 * 7 * 4,
        "distill": distilled,
        "control": distilled,
        # four models on 25 prompts: greedy, sampled, and the sampled ones checked
        "evaluate": 4 * (1.0 * 50 + 10.0 * 25),
    }


@pytest.mark.parametrize(
    "distill",
    [{"objective": "sft"}, {"objective": "taid"},
     {"objective": "reverse_kl", "completions": {"student_share": 1.0}},
     {"completions": {"source": "teacher"}}],
)  # fmt: skip
def test_every_kind_of_distillation_can_be_measured(
    distill: dict[str, Any], tmp_path: Path
) -> None:
    page, problems = plan(small_recipe(distill=distill), tmp_path / "run", measured=True)
    assert problems == [] and ", distill " in page.splitlines()[-1]


def test_the_control_takes_over_what_the_teacher_drew(tmp_path: Path) -> None:
    recipe = small_recipe(distill={"completions": {"source": "teacher"}, "max_steps": 1})
    facts = gather(Session(tmp_path, recipe))
    costs = Costs(drawing=1.0, checking=0.0, teaching=7.0, pair=0.0, row=0.0, pairs_per_prompt=0.0)
    found = totals(recipe, facts, costs, NO_LENGTHS)
    assert found["distill"] == 12 * 7.0 and "control" not in found


def test_all_problems_come_at_once_and_exit_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "a"}) + "\n", encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    benchmark = {"name": "b", "file": "nowhere.jsonl", "answer_column": "answer"}
    broken = small_recipe(
        prompts={"file": str(rows), "reference_column": "answer"},
        evaluate={"benchmarks": [benchmark]},
        cut={"keep_layers": [0, 9]},
    )
    recipe.write_text(dump_recipe(broken), encoding="utf-8")
    argv = ["warmup-distill", "plan", str(recipe), "--output-dir", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    page = capsys.readouterr().out
    for problem in ("expected a column `prompt`", "nowhere.jsonl, but there is none",
                    "keep_layers names layer 9"):  # fmt: skip
        assert problem in page


def test_rows_are_looked_at_even_where_a_model_is_missing(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "a"}) + "\n", encoding="utf-8")
    prompts = {"file": str(rows), "reference_column": "answer"}
    recipe = small_recipe(teacher="./nowhere", prompts=prompts)
    _, problems = plan(recipe, tmp_path / "run", measured=False)
    assert len(problems) == 2
    assert "nothing is there" in problems[0] and "expected a column `prompt`" in problems[1]


def test_sizes_come_from_the_configuration_alone() -> None:
    facts = model_facts("bundled:student")
    # 3 layers of keys and values, 2 heads of 16 numbers each
    assert facts.cache_numbers == 2 * 3 * 2 * 16
    card = json.loads((BUNDLED / "student" / "card.json").read_text(encoding="utf-8"))
    assert facts.parameters == card["parameters"]
