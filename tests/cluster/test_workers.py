"""Workers under Ray give the bytes of one process, whatever happens to them."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from isolated import (
    busy_workers,
    differing,
    finish,
    is_there,
    require_isolation,
    run,
    start,
    training_workers,
)
from safetensors.torch import load_file

from warmup_distill.store.artifacts import read_json, write_json

PARTS = ["prompts", "rollouts", "pairs"]
RECIPE = """
teacher: bundled:teacher
student: bundled:student
control: true
prompts: {dataset: 'bundled:problems', limit: 40}
rollouts: {num_samples: 8, max_new_tokens: 64, prompts_per_part: 4, batch_tokens: 8192}
warmup: {beta: 2.0, learning_rate: 1.0e-4, per_device_train_batch_size: 32}
distill:
  completions: {source: teacher}
  num_train_epochs: 4
  teacher_signal: hidden
  learning_rate: 3.0e-4
  per_device_train_batch_size: 8
evaluate:
  samples: 2
  batch_tokens: 4096
  benchmarks: [{name: problems, dataset: 'bundled:problems', split: test, limit: 60}]
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, in a folder with its recipe."""
    require_isolation()
    folder = tmp_path_factory.mktemp("whole")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    run("run", "recipe.yaml", "--output-dir", "run", folder=folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def wait_for_busy(process: subprocess.Popen[str], count: int = 1) -> list[int]:
    """Workers of a process that compute, once there are so many."""
    while process.poll() is None:
        found = busy_workers(process.pid)
        if len(found) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError("it ended before its workers were seen at work")


@pytest.fixture(scope="module")
def spread(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by two workers, and in `workers.txt` their processes."""
    folder = tmp_path_factory.mktemp("spread")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    process = start(
        "-m", "warmup_distill", "run", "recipe.yaml", "--output-dir", "run", "--workers", "2",
        folder=folder,
    )  # fmt: skip
    workers = wait_for_busy(process, 2)
    said = finish(process, folder)
    assert "pid=" not in said and "Traceback" not in said, "only what one process says"
    for stage in ("rollouts", "warmup", "control", "distill", "evaluate"):
        assert f"{stage}: 100%" in said
    (folder / "workers.txt").write_text(" ".join(map(str, workers)), encoding="utf-8")
    return folder


def test_two_workers_give_the_bytes_of_one_process_and_leave_nothing_behind(
    whole: Path, spread: Path
) -> None:
    folder = spread
    workers = map(int, (folder / "workers.txt").read_text(encoding="utf-8").split())
    assert differing(whole / "run", folder / "run", [*PARTS, "completions", "signals"]) == []
    assert not list((folder / "run" / "checkpoints").rglob("*"))
    assert not any(map(is_there, workers))
    for stage in ("warmup", "control", "distill"):  # sums are taken in another order
        ours, theirs = (load_file(run / "run" / stage / "model.safetensors")
                        for run in (folder, whole))  # fmt: skip
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[name], atol=2e-3, rtol=0)
    student = "evaluate/student"
    assert differing(whole / "run", folder / "run", [student]) == []


def test_a_training_that_lost_a_worker_goes_on_to_the_same_weights(
    whole: Path, spread: Path, folder: Path
) -> None:
    """The control by two workers, one of which is killed when a checkpoint has been sealed."""
    shutil.copytree(whole / "run", folder / "run", ignore=shutil.ignore_patterns("control"))
    manifest = read_json(folder / "run" / "manifest.json")
    for stage in ("control", "evaluate", "report"):
        del manifest["stages"][stage]
    write_json(folder / "run" / "manifest.json", manifest)
    process = start(
        "-m", "warmup_distill", "control", "recipe.yaml", "--output-dir", "run", "--workers", "2",
        "--set", "distill.save_steps=1", folder=folder,
    )  # fmt: skip
    checkpoints = folder / "run" / "checkpoints" / "control"
    while not list(checkpoints.glob("checkpoint-*/seal.json")):
        assert process.poll() is None, "it ended before a checkpoint was seen"
        time.sleep(0.01)
    os.kill(training_workers(process.pid)[1], signal.SIGKILL)
    said = finish(process, folder)
    assert "going on from" in said
    unlike = differing(folder / "run", spread / "run", ["control"])
    assert set(unlike) <= {"control/trainer_log.jsonl"}  # whose keys stand in another order


def test_a_worker_that_is_killed_costs_its_open_part_alone(whole: Path, folder: Path) -> None:
    command = ["recipe.yaml", "--output-dir", "run"]
    run("prompts", *command, folder=folder)
    process = start("-m", "warmup_distill", "rollouts", *command, "--workers", "2", folder=folder)
    os.kill(wait_for_busy(process)[0], signal.SIGKILL)
    said = finish(process, folder)
    assert "sent again" in said or "waits for a worker" in said
    assert differing(whole / "run", folder / "run", ["rollouts"]) == []


def test_a_driver_that_is_killed_goes_on_and_its_workers_end(whole: Path, folder: Path) -> None:
    command = ["recipe.yaml", "--output-dir", "run", "--workers", "2"]
    run("prompts", *command, folder=folder)
    process = start("-m", "warmup_distill", "rollouts", *command, folder=folder)
    wait_for_busy(process)
    while not list((folder / "run" / "rollouts").glob("part-*.parquet")):
        time.sleep(0.02)
    workers = busy_workers(process.pid)
    process.kill()
    process.wait()
    gone_by = time.monotonic() + 60
    while any(map(is_there, workers)) and time.monotonic() < gone_by:
        time.sleep(0.1)
    assert not any(map(is_there, workers))
    run("rollouts", *command, folder=folder)
    assert differing(whole / "run", folder / "run", ["rollouts"]) == []


@pytest.mark.parametrize("fate", ["killed", "stopped"])
def test_a_machine_that_dies_or_hangs_costs_its_open_parts_alone(
    fate: str, whole: Path, folder: Path
) -> None:
    """Two machines are two of Ray's nodes, each with processes of its own."""
    run("prompts", "recipe.yaml", "--output-dir", "run", folder=folder)
    said = finish(
        start(str(Path(__file__).with_name("two_machines.py")), fate, folder=folder), folder
    )
    assert "sent again" in said or "waits for a worker" in said
    assert differing(whole / "run", folder / "run", ["rollouts"]) == []
