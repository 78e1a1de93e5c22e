"""Controls by name: each costs what it should, is evaluated, and goes on where it stopped."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_checkpoints import without
from test_run import small_recipe
from test_state import Killed, assert_same_weights, kill_at

from warmup_distill.errors import RecipeError, RunError
from warmup_distill.ledger.paths import compute
from warmup_distill.page.table import MODELS, table_rows
from warmup_distill.pipeline import opened, run, run_stage, stages_of
from warmup_distill.planning.page import plan
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.controls import MODELS as NAMES

ALL = ["steps", "compute", "cold_start", "corrected"]
TRAINED = ["cold_start", "control", "control_compute", "control_cold_start", "control_corrected"]
AFTER = ["control_compute", "cold_start", "control_cold_start", "control_corrected", "evaluate",
         "report"]  # fmt: skip


def recipe(**changes: Any) -> Recipe:
    benchmark = {"name": "b", "dataset": "bundled:problems", "split": "test", "limit": 4}
    values: dict[str, Any] = {
        "control": ALL,
        "prompts": {"dataset": "bundled:problems", "limit": 40},
        "rollouts": {"num_samples": 3, "max_new_tokens": 40, "limit": 30},
        "warmup": {"learning_rate": 1e-4, "watch": {"prompts": 3}},
        "distill": {"learning_rate": 1e-4, "max_length": 128, "save_steps": 3,
                    "per_device_train_batch_size": 4},
        "evaluate": {"benchmarks": [benchmark]},
    }  # fmt: skip
    return small_recipe(**(values | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(recipe(), tmp_path_factory.mktemp("controls") / "finished")


def entries(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = manifest["stages"]
    return found


def share(folder: Path, model: str) -> float:
    """What a model cost, of what the one cost that was warmed up and distilled."""
    ours, whole = (compute(entries(folder), name) for name in (model, "distill"))
    assert ours is not None and whole
    return ours / whole


def test_a_control_of_equal_compute_costs_as_much_within_3_percent(finished: Path) -> None:
    assert share(finished, "control") < 0.5
    assert share(finished, "control_compute") == pytest.approx(1, abs=0.03)
    # one step less or more is further from it
    counts = entries(finished)["control_compute"]["counts"]
    assert counts["steps"] > 2 * entries(finished)["control"]["counts"]["steps"]


def test_a_cold_start_costs_what_the_warm_up_cost_and_draws_for_half_of_it(finished: Path) -> None:
    known = entries(finished)
    warmup = share(finished, "warmup")
    assert share(finished, "cold_start") == pytest.approx(warmup, abs=0.03)
    assert share(finished, "control_cold_start") == pytest.approx(1, abs=0.03)
    spent = {(o["model"], o["work"]): o["operations"] for o in known["cold_start"]["cost"]}
    assert set(spent) == {("teacher", "sample"), ("student", "train")}
    # one more of each prompt that was rolled out, until half is spent
    times, rest = divmod(known["cold_start"]["counts"]["completions"], 30)
    assert rest == 0 and 1 <= times <= 3
    assert spent["teacher", "sample"] * (times - 1) / times < sum(spent.values()) / 2


def test_corrected_completions_take_as_many_steps_and_the_rollouts(finished: Path) -> None:
    known = entries(finished)
    assert known["control_corrected"]["counts"] == {
        "rows": 90, "steps": known["distill"]["counts"]["steps"], "left_out": 0,
        "dropped": {"verifier": 0},
    }  # fmt: skip
    assert known["control_corrected"]["uses"] == ["rollouts"]
    assert known["control"]["counts"]["steps"] == known["distill"]["counts"]["steps"] == 10


def test_every_control_is_evaluated_and_explained(finished: Path) -> None:
    rows = table_rows(finished)
    assert tuple(row.model for row in rows) == NAMES == tuple(MODELS)
    assert all(row.operations is not None and row.cost is not None for row in rows)
    page = (finished / "report" / "index.html").read_text(encoding="utf-8")
    assert "not warmed up, and distilled in as many more steps" in page
    stages = {name: one["counts"] for name, one in entries(finished).items()}
    assert stages["evaluate"]["models"] == 8 and list(stages) == stages_of(recipe())


@pytest.mark.parametrize(("stage", "step"), [("control_compute", 7), ("cold_start", 4)])
def test_a_control_that_was_killed_goes_on_to_the_same_weights_at_the_same_cost(
    stage: str, step: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = without(finished, tmp_path / "run", *AFTER[AFTER.index(stage) :])
    for killed in (True, False):
        with opened(recipe(), folder, stage=stage) as session, monkeypatch.context() as patch:
            if killed:
                kill_at(step, patch)
                with pytest.raises(Killed):
                    run_stage(session, stage)
            else:
                run_stage(session, stage)
    assert_same_weights(folder / stage, finished / stage)
    assert entries(folder)[stage]["cost"] == entries(finished)[stage]["cost"]


def test_a_warm_up_without_pairs_has_its_controls_too(tmp_path: Path) -> None:
    rollouts = {"num_samples": 1, "max_new_tokens": 24, "margin_threshold": 900, "limit": 16}
    folder = run(recipe(rollouts=rollouts, evaluate={}), tmp_path / "run")
    assert entries(folder)["warmup"]["counts"]["rows"] == 0
    assert share(folder, "control_compute") == pytest.approx(1, abs=0.05)  # of 12 steps
    assert_same_weights(folder / "control", folder / "distill")


def test_where_the_warm_up_adds_nothing_a_cold_start_changes_nothing(tmp_path: Path) -> None:
    rollouts = {"num_samples": 1, "max_new_tokens": 16, "margin_threshold": 900}
    section = {"max_steps": 1, "max_length": 128, "completions": {"source": "rollouts"}}
    few = recipe(rollouts=rollouts, distill=section, evaluate={}, control=["compute", "cold_start"])
    folder = run(few, tmp_path / "run")
    assert entries(folder)["cold_start"]["counts"] == {"rows": 0, "steps": 0}
    assert entries(folder)["control_compute"]["counts"]["steps"] == 1
    assert share(folder, "control_cold_start") == 1  # the rollouts went into both


def test_more_controls_keep_what_is_done(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    fewer = recipe(control=["steps", "corrected"])
    with pytest.raises(RunError, match=r"control: .*compute.* there, .*corrected.* here"):
        run(fewer, folder)
    before = entries(folder)
    run(fewer, folder, redo=True)
    after = entries(folder)
    assert after["evaluate"]["counts"]["models"] == 5
    assert all(after[stage] == before[stage] for stage in ("distill", "control_corrected"))
    assert [row.model for row in table_rows(folder)] == [
        "student", "warmup", "control", "control_corrected", "distill",
    ]  # fmt: skip


def test_what_an_earlier_version_did_not_count_is_done_again_for_a_control_that_asks(
    finished: Path, tmp_path: Path
) -> None:
    folder = without(finished, tmp_path / "run", *AFTER)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for stage in manifest["stages"].values():
        for name in ("cost", "uses"):
            stage.pop(name, None)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    rolled = (folder / "rollouts" / "part-00000.parquet").stat().st_mtime_ns
    with pytest.raises(RunError, match="what rollouts, warmup, distill cost: .*") as refusal:
        run(recipe(), folder)
    assert "does again: rollouts, pairs, warmup, distill" in str(refusal.value)
    with opened(recipe(control=["steps", "corrected"]), folder, redo=True):
        assert entries(folder)["distill"]["state"] == "complete"  # they ask for no cost
    with opened(recipe(), folder, redo=True) as session:
        for stage in ("rollouts", "pairs", "warmup", "distill"):
            run_stage(session, stage)
    assert entries(folder)["distill"]["cost"] == entries(finished)["distill"]["cost"]
    assert (folder / "rollouts" / "part-00000.parquet").stat().st_mtime_ns == rolled


def test_the_plan_names_every_control(tmp_path: Path) -> None:
    text, problems = plan(recipe(), tmp_path / "run", measured=True)
    assert problems == []
    (memory,) = [line for line in text.splitlines() if line.startswith("memory")]
    (time,) = [line for line in text.splitlines() if line.startswith("time")]
    for stage in TRAINED:
        assert f"{stage} to do" in text and f" {stage} " in memory and f" {stage} " in time


def test_a_corrected_control_that_says_nothing_new_is_refused() -> None:
    for completions in ({"source": "rollouts"}, {"student_share": 1}):
        with pytest.raises((RecipeError, ValueError), match="control: corrected"):
            recipe(distill={"completions": completions})
    recipe(distill={"completions": {"source": "rollouts"}}, control=ALL[:3])


def test_prompts_that_leave_no_room_for_a_control_are_found_ahead(tmp_path: Path) -> None:
    long = " ".join(["cups"] * 60)
    rows = [{"prompt": long, "reference": "three"}, {"prompt": "Ava has 3.", "reference": "three"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    few = recipe(
        prompts={"file": str(path), "reference_column": "reference"},
        rollouts={"limit": 1, "max_new_tokens": 16},
        distill={"max_length": 40},
        control=["corrected"],
    )
    _, problems = plan(few, tmp_path / "run", measured=False)
    assert any("fit into 40 tokens" in problem for problem in problems)
    assert plan(few.model_copy(update={"control": True}), tmp_path / "run", measured=False)[1] == []
