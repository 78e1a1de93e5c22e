"""Two processes train as one does: the same gradient, whatever each of them holds."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import (
    distill_trainer,
    distill_trainer_by_rows,
    warmup_trainer,
    warmup_trainer_by_rows,
)

from warmup_distill.models.vocabulary import Vocabulary

TESTS = Path(__file__).parent


def train_in_two_processes(kind: str, folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS), *sys.path]),
    }  # fmt: skip
    command = [sys.executable, str(TESTS / "distributed_worker.py"), kind, str(folder)]
    workers = [
        subprocess.Popen(
            command, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@pytest.mark.parametrize(
    ("kind", "build"),
    [
        ("distill", distill_trainer),
        ("distill_by_rows", distill_trainer_by_rows),
        ("warmup", warmup_trainer),
        ("warmup_by_rows", warmup_trainer_by_rows),  # two of them in one process, one in the other
    ],
)
def test_two_processes_give_the_gradient_of_one(
    kind: str, build: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    alone = build(vocabulary, tmp_path, (4, 1))
    alone.train()
    norms = [line["grad_norm"] for line in alone.state.log_history if "loss" in line]
    train_in_two_processes(kind, tmp_path)
    found, weights, ran = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found == pytest.approx(norms, rel=1e-4)
    assert ran["trained"]["predictions"] == alone.ran.trained.predictions
    if kind.startswith("distill"):  # pairs of a prompt share it only where they are together
        assert ran == alone.ran.state()
    for name, parameter in alone.model.state_dict().items():
        torch.testing.assert_close(weights[name], parameter, atol=1e-4, rtol=0)
