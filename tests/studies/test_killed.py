"""A study that is killed at any instant goes on with the same command, to the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from test_studies import hashes, written

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
STUDY: dict[str, Any] = {
    "set": {"evaluate.benchmarks": [
        {"name": "problems", "dataset": "bundled:problems", "split": "test", "limit": 4}
    ]},
    "grid": {"warmup.beta": [0.5, 2.0]},
}  # fmt: skip


def start(path: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "warmup_distill", "study", str(path), "--output-dir"]
    return subprocess.Popen(
        [*command, str(folder)], env=ENVIRONMENT, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def kill_when_there(path: Path, folder: Path, pattern: str) -> None:
    process = start(path, folder)
    while not list(folder.glob(pattern)):
        assert process.poll() is None, f"it ended before {pattern} was there"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, **STUDY)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(path, whole).wait() == 0
    for pattern in (
        "runs/*/rollouts/part-00001.parquet",
        "runs/beta=0.5,seed=0/warmup/model.safetensors",
        "runs/beta=2.0,seed=0/evaluate/*/problems.json",
    ):
        kill_when_there(path, killed, pattern)
    assert start(path, killed).wait() == 0
    found, expected = hashes(killed), hashes(whole)
    del found["runs.parquet"], expected["runs.parquet"]  # which holds seconds
    assert found == expected and len(expected) > 20
    for name in ("scores.csv", "scores.parquet", "study.md"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
