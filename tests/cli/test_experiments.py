"""The commands that run a recipe many times: what they say, and how they end."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from test_screen import outcome

RECIPE: dict[str, Any] = {
    "teacher": "bundled:teacher",
    "student": "bundled:student",
    "prompts": {"dataset": "bundled:problems", "limit": 12},
    "rollouts": {"num_samples": 2, "max_new_tokens": 24, "limit": 8},
    "warmup": {"per_device_train_batch_size": 4, "watch": {"prompts": 4, "steps": 2}},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    return path


def study(recipe: Path, **values: Any) -> Path:
    path = recipe.with_name("study.yaml")
    text = yaml.safe_dump({"recipe": recipe.name, "until": "prompts"} | values)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_study_with_a_run_that_fails_says_why_and_ends_with_1(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(recipe, settings={"wrong": {"student": "nowhere"}, "right": {}})
    folder = recipe.parent / "study"
    code, said = outcome(
        ["study", str(path), "--output-dir", str(folder)], monkeypatch, capsys
    )  # fmt: skip
    assert code == 1 and "wrong,seed=0 failed: " in said and "Traceback" not in said
    assert (folder / "runs" / "right,seed=0" / "prompts").is_dir()
    assert "nowhere" in (folder / "index.html").read_text(encoding="utf-8")


def test_the_plan_of_a_study_is_that_of_all_its_settings(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(recipe, grid={"warmup.beta": [0.5, 2.0]}, seeds=[0, 1], until="warmup")
    code, said = outcome(["plan", str(path)], monkeypatch, capsys)
    assert code == 0 and "4: 2 settings times 2 seeds" in said and "rollouts 2 for 4" in said
    path = study(recipe, settings={"wrong": {"student": "nowhere"}})
    code, said = outcome(["plan", str(path)], monkeypatch, capsys)
    assert code == 2 and "wrong,seed=0: " in said


def test_a_search_says_where_its_recipe_is(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    arguments = ["tune", str(recipe), "--trials", "2", "--output-dir", str(recipe.parent / "s")]
    code, said = outcome(arguments, monkeypatch, capsys)
    assert code == 0 and str(recipe.with_name("mine.tuned.yaml")) in said
    assert recipe.with_name("mine.tuned.yaml").is_file()


@pytest.mark.parametrize("command", ["study", "tune"])
def test_a_file_that_is_not_there_is_one_message(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = outcome([command, "nowhere.yaml"], monkeypatch, capsys)
    assert code == 2 and said.startswith("error: ") and "nowhere.yaml" in said
