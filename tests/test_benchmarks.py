"""Benchmarks for machines that tests do not have run on those they do have."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(*arguments: str, script: str = "gpu.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_gpu_benchmark_runs_on_tiny_shapes_on_a_cpu(tmp_path: Path) -> None:
    done = run("--tiny", "--device", "cpu", "--json", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stderr
    limits, *results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["results"]
    assert limits["operations"] > 0 and limits["bytes"] > 0
    names = [one["name"] for one in results]
    assert names == [
        "sampling, 1.5B", "check, 1.5B", "sampling, 7B", "check, 7B",
        "warm-up step, 1.5B", "distillation step, 1.5B from 7B",
    ]  # fmt: skip
    for one in results:
        share = one.get("of_bandwidth_limit", one.get("of_matrix_product"))
        assert share > 0 and one["tokens_per_second"] > 0
        assert f"{one['name']}: " in done.stdout
    sampling = [one for one in results if one["name"].startswith("sampling")]
    assert all(one["times_generate"] > 0 and one["times_not_recorded"] > 0 for one in sampling)
    assert done.stdout.count("(goal 0.6)") == 2


def test_the_gpu_benchmark_says_in_one_line_that_there_is_no_gpu() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout.count("\n") == 1 and "found none" in done.stdout


def test_the_overhead_of_a_decode_step_is_measured_with_its_operations() -> None:
    done = run("--turns", "1", "--repeats", "1", script="decode_overhead.py")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(", now: ") for line in done.stdout.splitlines())
    assert lines.keys() == {
        "sampling", "unlike lengths", "rows that end", "generate", "model alone", "captured",
    }  # fmt: skip
    assert " per layer and 0.0 operations" in lines["captured"]
