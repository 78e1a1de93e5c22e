"""A search: what was tried says what is tried next; what leads away ends early; the best stays."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from warmup_distill.errors import RecipeError, RunError
from warmup_distill.recipe.reading import load_recipe
from warmup_distill.store.artifacts import write_json
from warmup_distill.tuning.search import Budget, space, tune
from warmup_distill.tuning.trials import Trial, best, bounds, read_trials

pytest.importorskip("optuna", reason="the extra `tune` is not installed")

RECIPE: dict[str, Any] = {
    "teacher": "bundled:teacher",
    "student": "bundled:student",
    "prompts": {"dataset": "bundled:problems", "limit": 20},
    "rollouts": {"num_samples": 2, "max_new_tokens": 24, "limit": 16},
    "warmup": {
        "beta": 0.1, "learning_rate": 1e-3, "per_device_train_batch_size": 4,
        "watch": {"prompts": 4, "steps": 2},
    },
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    return path


def trial(number: int, *kls: float, state: Any = "complete") -> Trial:
    """One that was examined at steps 0, 2, 4, ..."""
    history = [{"step": 2.0 * i, "watch_kl": kl, "watch_mismatch": kl / 10}
               for i, kl in enumerate(kls)]  # fmt: skip
    return Trial(number=number, settings={"warmup.beta": 1.0}, state=state, history=history)


def test_the_first_trial_is_the_recipe_and_the_best_goes_into_a_recipe(path: Path) -> None:
    folder = path.parent / "search"
    tuned = tune(path, [], folder, Budget(trials=3))
    trials = read_trials(folder)
    first = {"warmup.beta": 0.1, "warmup.learning_rate": 1e-3, "warmup.num_train_epochs": 1.0}
    assert trials[0].settings == first and len(trials) == 3
    ends = space(load_recipe(path))
    for one in trials:
        assert all(low <= one.settings[n] <= high * 1.01 for n, (low, high) in ends.items())
    chosen = min(trials, key=lambda one: one.kl)
    found = load_recipe(tuned)
    assert tuned == path.parent / "bad.tuned.yaml"
    assert found.warmup.beta == chosen.settings["warmup.beta"]
    assert found.warmup.learning_rate == chosen.settings["warmup.learning_rate"]
    assert f"trial {chosen.number} of 3" in tuned.read_text(encoding="utf-8")
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["kl"]) for row in rows] == [one.kl for one in trials]
    shared = {(folder / "base" / "pairs" / "part-00000.parquet").stat().st_ino} | {
        (folder / "trials" / f"{n:04d}" / "pairs" / "part-00000.parquet").stat().st_ino
        for n in range(3)
    }
    assert len(shared) == 1, "pairs are made once"
    drawn = (folder / "search.csv").read_text(encoding="utf-8")
    least = min(one.kl for one in trials)
    assert f"best so far,2.0,{least}" in drawn and (folder / "search.svg").is_file()


def test_a_search_that_stopped_goes_on_with_what_it_would_have_tried(path: Path) -> None:
    whole, half = path.parent / "whole", path.parent / "half"
    tune(path, [], whole, Budget(trials=3))
    tune(path, [], half, Budget(trials=1))
    tune(path, [], half, Budget(trials=3))
    one, other = read_trials(whole), read_trials(half)
    assert [t.settings for t in one] == [t.settings for t in other]
    assert [t.history for t in one] == [t.history for t in other]
    other_seed = path.parent / "other"
    tune(path, ["seed=54321"], other_seed, Budget(trials=2))
    assert read_trials(other_seed)[1].settings != one[1].settings


def test_what_is_worse_than_half_of_all_at_a_step_ends_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = path.parent / "search"
    tune(path, [], folder, Budget(trials=1))
    (first,) = read_trials(folder)
    near = [{**one, "watch_kl": 1e-9} for one in first.history]
    known = [Trial(number=n, settings=first.settings, state="complete", history=near)
             for n in range(4)]  # fmt: skip
    write_json(folder / "trials.json", [json.loads(json.dumps(vars(one))) for one in known])
    tune(path, [], folder, Budget(trials=5))
    last = read_trials(folder)[-1]
    assert last.state == "given up" and last.history[-1]["step"] == 2


def test_bounds_are_medians_of_the_nearest_so_far() -> None:
    trials = [trial(0, 9, 3, 5), trial(1, 9, 1, 0.5), trial(2, 9, 4), trial(3, 9, 8, 8)]
    assert bounds(trials[:3]) == {}  # of three nothing is known
    assert bounds(trials) == {2: 3.5}  # of 3, 1, 4, 8; only three came to step 4
    assert bounds([*trials, trial(4, 9, 2, 2)])[4] == 2.5  # of 3, 0.5, 8, 2


def test_the_best_is_nearest_to_the_teacher_and_what_failed_is_not() -> None:
    failed = Trial(number=0, settings={}, state="failed", why="it broke")
    assert math.isinf(failed.kl) and failed.mismatch == 1
    assert best([failed, trial(1, 3, 2), trial(2, 3, 1), trial(3, 3, 1)]).number == 2


def test_a_trial_that_fails_is_said_and_counts(path: Path) -> None:
    folder = path.parent / "search"
    tune(path, [], folder, Budget(trials=1))
    in_the_way = folder / "trials" / "0001"
    in_the_way.mkdir(parents=True)
    (in_the_way / "notes.txt").write_text("mine", encoding="utf-8")
    tune(path, [], folder, Budget(trials=2))
    other, failed = read_trials(folder)
    assert failed.state == "failed" and failed.why and str(in_the_way) in failed.why
    assert other.state != "failed" and best([failed, other]) is other
    assert (in_the_way / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("warmup.watch.prompts=0", "judged by what the watch finds"),
        ("warmup.max_steps=3", "Leave max_steps out"),
    ],
)
def test_a_recipe_that_leaves_nothing_to_judge_by_is_refused(
    path: Path, override: str, said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        tune(path, [override], path.parent / "search", Budget(trials=1))


def test_what_no_search_has_written_stays(path: Path) -> None:
    mine = path.parent / "bad.tuned.yaml"
    mine.write_text("teacher: mine\n", encoding="utf-8")
    with pytest.raises(RunError, match="in the way"):
        tune(path, [], path.parent / "search", Budget(trials=1))
    assert mine.read_text(encoding="utf-8") == "teacher: mine\n"
    mine.unlink()
    tune(path, [], path.parent / "search", Budget(trials=1))
    with pytest.raises(RunError, match="made by another recipe"):
        tune(path, ["seed=5"], path.parent / "search", Budget(trials=1))


def test_prompts_without_a_pair_leave_nothing_to_search(path: Path) -> None:
    with pytest.raises(RunError, match="no pairs"):
        tune(path, ["rollouts.margin_threshold=900"], path.parent / "search", Budget(trials=1))


def test_prompts_of_which_none_can_be_held_out_are_refused(path: Path) -> None:
    few = ["prompts.limit=8", "rollouts.limit=8"]
    with pytest.raises(RunError, match="too few prompts to hold one out"):
        tune(path, few, path.parent / "search", Budget(trials=1))


def test_a_search_goes_on_where_only_its_speed_was_changed(path: Path) -> None:
    folder = path.parent / "search"
    tune(path, [], folder, Budget(trials=1))
    tune(path, ["rollouts.batch_tokens=4096"], folder, Budget(trials=2))
    assert len(read_trials(folder)) == 2


def test_a_folder_of_somebody_else_is_not_written_into(path: Path) -> None:
    folder = path.parent / "mine"
    folder.mkdir()
    (folder / "trials.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="not ours to write into"):
        tune(path, [], folder, Budget(trials=1))
    assert (folder / "trials.csv").read_text(encoding="utf-8") == "mine"
