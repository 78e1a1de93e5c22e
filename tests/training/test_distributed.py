"""Two processes train as one does, whether each holds the model or a share of it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_model
from scenarios import SCENARIOS, fitted, outcome, weights_in

from warmup_distill.errors import RunError

TESTS = Path(__file__).parent
HOW = ["replicated", "sharded"]


def train_in_two_processes(how: str, folder: Path) -> list[dict[str, Any]]:
    """What each of two processes has found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    paths = [TESTS.parent, TESTS, TESTS.parent / "store", *sys.path]
    shared = {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }  # fmt: skip
    command = [sys.executable, str(TESTS / "distributed_worker.py"), how, str(folder)]
    workers = [
        subprocess.Popen(
            command, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {how: tmp_path_factory.mktemp(how) for how in HOW}


@pytest.fixture(scope="module")
def together(folders: dict[str, Path]) -> dict[str, list[dict[str, Any]]]:
    return {how: train_in_two_processes(how, folder) for how, folder in folders.items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of what one process has fitted, whole and by adapters."""
    folder = tmp_path_factory.mktemp("alone")
    fitted(folder / "whole")
    fitted(folder / "adapted", lora={"r": 2})
    return folder


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Adam divides by the gradient's size, which magnifies rounding where it is near 0."""
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        # Two numbers that are close in float32 may round to neighbours in bfloat16.
        step = 2**-7 if weight.dtype is torch.bfloat16 else 0
        torch.testing.assert_close(found[name], weight, atol=1e-4, rtol=step)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_train_as_one_does(
    name: str, how: str, together: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """Gradients, losses, what is logged besides, TAID's target, held-out rows and weights."""
    expected, found = outcome(name, tmp_path, 1), together[how][0][name]
    for line, other in zip(expected["log"], found["log"], strict=True):
        assert other == pytest.approx(line, rel=1e-4, abs=1e-4)
    pairs = "prompts" in name or name in ("warmup", "checkpointed")
    if pairs:  # those of a prompt share it only where one process has them in one row
        assert found["ran"]["trained"]["predictions"] == expected["ran"]["trained"]["predictions"]
    else:
        assert found["ran"] == expected["ran"]
    assert found["held_out"] == pytest.approx(expected["held_out"], rel=1e-4, abs=1e-4)
    assert found["t"] == pytest.approx(expected["t"], rel=1e-5)
    assert together[how][1][name]["t"] == found["t"]
    assert_close(found["weights"], expected["weights"])


def test_a_model_in_shards_is_saved_whole(
    together: dict[str, list[dict[str, Any]]], folders: dict[str, Path], alone: Path
) -> None:
    folder, whole = folders["sharded"] / "undisturbed", alone / "whole"
    assert {tensor.dtype for tensor in weights_in(folder).values()} == {torch.bfloat16}
    assert_close(weights_in(folder), weights_in(whole))
    assert (folder / "config.json").read_text() == (whole / "config.json").read_text()
    assert_close(weights_in(folders["sharded"] / "adapted"), weights_in(alone / "adapted"))


@pytest.mark.parametrize("name", ["resumed", "in_pieces"])
def test_a_training_in_shards_that_was_killed_goes_on_to_the_same_weights(
    name: str, together: dict[str, list[dict[str, Any]]], folders: dict[str, Path]
) -> None:
    found, expected = (weights_in(folders["sharded"] / one) for one in (name, "undisturbed"))
    assert all(torch.equal(found[one], weight) for one, weight in expected.items())
    checkpoint = folders["sharded"] / "checkpoints" / name / "checkpoint-4"
    sealed = json.loads((checkpoint / "seal.json").read_text())["files"]
    there = [path for path in checkpoint.rglob("*") if path.is_file()]
    assert {path.relative_to(checkpoint).as_posix() for path in there} == {*sealed, "seal.json"}


def test_a_checkpoint_of_two_processes_is_refused_by_one_with_both_numbers(
    together: dict[str, list[dict[str, Any]]], folders: dict[str, Path]
) -> None:
    with pytest.raises(RunError, match=r"another training:\n  processes: 2 there, 1 here\n"):
        fitted(folders["replicated"] / "fitted")


def test_processes_stop_together_where_the_first_finds_that_the_warm_up_leads_away(
    together: dict[str, list[dict[str, Any]]], folders: dict[str, Path]
) -> None:
    counts = {"rows": 4, "steps": 2, "best_step": 0, "stopped": 1}
    for found in together["replicated"]:
        assert counts == {name: found["watched"][name] for name in counts}
    assert_close(weights_in(folders["replicated"] / "watched"), random_model(3).state_dict())


def test_each_process_draws_completions_of_its_own_and_all_take_one_step(
    together: dict[str, list[dict[str, Any]]],
) -> None:
    first, second = (found["drawn"] for found in together["replicated"])
    assert first["ids"] != second["ids"]
    assert all(map(torch.equal, first["weights"].values(), second["weights"].values()))


def test_shards_that_accelerate_would_not_make_are_refused_with_both_names(
    together: dict[str, list[dict[str, Any]]],
) -> None:
    for found in together["replicated"]:
        assert (
            "fsdp was asked for, which is FSDP to Accelerate, and it runs MULTI_CPU"
            in (found["refused"])
        )


def test_all_processes_stop_at_a_gradient_that_is_not_finite_in_one(
    together: dict[str, list[dict[str, Any]]],
) -> None:
    for found in together["sharded"]:
        assert found["not finite"].startswith("the gradient of lm_head.weight in step 2 is not")
