"""A checkpoint serves the training that wrote it, and no other; its watch goes on where it was."""

import json
import shutil
from pathlib import Path

import pytest
from test_run import small_recipe
from test_state import Killed, assert_same_weights, kill_at

from warmup_distill.errors import RunError
from warmup_distill.pipeline import opened, run, run_stage
from warmup_distill.recipe import Recipe


def recipe() -> Recipe:
    """Trainings with a checkpoint after every second step, the warm-up watched at every step."""
    return small_recipe(
        warmup={"learning_rate": 1e-3, "per_device_train_batch_size": 4, "save_steps": 2,
                "watch": {"prompts": 1, "steps": 1}},
        distill={"learning_rate": 1e-3, "max_length": 128, "save_steps": 2,
                 "per_device_train_batch_size": 2},
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(recipe(), tmp_path_factory.mktemp("checkpoints") / "finished")


def without(finished: Path, folder: Path, *stages: str) -> Path:
    """A copy of a run in which some stages were not begun."""
    shutil.copytree(finished, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for stage in stages:
        del manifest["stages"][stage]
        shutil.rmtree(folder / stage)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def work(folder: Path, stage: str) -> None:
    with opened(recipe(), folder, stage=stage) as session:
        run_stage(session, stage)


def killed(folder: Path, stage: str, step: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoints of a stage that was killed after a step."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(step, patch)
        work(folder, stage)
    return folder / "checkpoints" / stage


def test_a_checkpoint_of_the_control_is_refused_by_the_distillation(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = without(finished, tmp_path / "run", "distill", "control", "evaluate", "report")
    others = killed(folder, "distill", 3, monkeypatch)
    shutil.rmtree(others)
    without(finished, tmp_path / "there", "control", "evaluate", "report")
    shutil.move(killed(tmp_path / "there", "control", 5, monkeypatch), others)
    with pytest.raises(RunError) as error:
        work(folder, "distill")
    for line in (
        "belongs to another training",
        "stage: 'control' there, 'distill' here",
        "start: ",
    ):
        assert line in str(error.value)
    shutil.rmtree(others)
    work(folder, "distill")
    assert_same_weights(folder / "distill", finished / "distill")


def test_a_checkpoint_that_does_not_say_where_it_comes_from_is_passed_over(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = without(finished, tmp_path / "run", "control", "evaluate", "report")
    seal = killed(folder, "control", 3, monkeypatch) / "checkpoint-2" / "seal.json"
    known = json.loads(seal.read_text(encoding="utf-8"))
    for key in ("stage", "start", "teacher", "recipe"):
        assert known["about"].pop(key)
    seal.write_text(json.dumps(known), encoding="utf-8")
    work(folder, "control")
    assert "does not say all that it depends on" in caplog.text
    assert_same_weights(folder / "control", finished / "control")


def test_two_checkpoints_are_kept_and_those_are_whole(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = without(finished, tmp_path / "run", "control", "evaluate", "report")
    kept = killed(folder, "control", 6, monkeypatch)
    assert sorted(path.name for path in kept.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    work(folder, "control")
    assert not kept.exists()


@pytest.mark.parametrize("step", [3, 6])
def test_a_killed_watch_goes_on_to_the_same_examinations(
    step: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = ("warmup", "distill", "control", "evaluate", "report")
    folder = without(finished, tmp_path / "run", *after)
    killed(folder, "warmup", step, monkeypatch)
    work(folder, "warmup")
    name = "warmup/watch.json"
    assert (folder / name).read_bytes() == (finished / name).read_bytes()
    assert_same_weights(folder / "warmup", finished / "warmup")


@pytest.mark.parametrize("cut", [False, True])
def test_a_watch_without_its_best_weights_is_refused(
    cut: bool, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = ("warmup", "distill", "control", "evaluate", "report")
    folder = without(finished, tmp_path / "run", *after)
    for best in killed(folder, "warmup", 5, monkeypatch).glob("best-*.safetensors"):
        best.write_bytes(b"cut") if cut else best.unlink()
    with pytest.raises(RunError, match=r"best-\d+.safetensors is missing or has changed"):
        work(folder, "warmup")
