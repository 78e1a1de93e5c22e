"""Kill a run at random instants until it is through, and look for anything lost or different.

    python benchmarks/soak.py --kills 40 --json soak.json
    python benchmarks/soak.py --kills 40 --recipe everything --threads 2
    python benchmarks/soak.py --kills 0 --threads 4      two runs that nothing interrupts

A small run of all stages on the bundled pair is killed (SIGKILL) again and again at random
instants, and started again with the same command. Then every file of rollouts and pairs must be
the same bytes as in a run that nothing interrupted, and every weight the same number.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from warmup_distill.records import Rollout
from warmup_distill.store.artifacts import read_records

RECIPES = {
    "quickstart": """
teacher: bundled:teacher
student: bundled:student
control: true
prompts: {dataset: 'bundled:problems', limit: 200}
rollouts: {num_samples: 8, max_new_tokens: 96, prompts_per_part: 8, batch_tokens: 16384}
warmup: {beta: 2.0, learning_rate: 1.0e-4, per_device_train_batch_size: 16, save_steps: 5}
distill:
  learning_rate: 3.0e-4
  per_device_train_batch_size: 8
  max_length: 256
  num_train_epochs: 2
  save_steps: 5
evaluate:
  benchmarks:
    - {name: problems, dataset: 'bundled:problems', split: test, limit: 200}
""",
    "everything": """
teacher: bundled:teacher
student: bundled:teacher
control: true
prompts: {dataset: 'bundled:problems', limit: 120}
cut:
  keep_layers: [0, 1, 3]
  completions: {source: teacher, max_new_tokens: 96}
  learning_rate: 1.0e-3
  per_device_train_batch_size: 8
  num_train_epochs: 4
  save_steps: 5
rollouts: {num_samples: 4, max_new_tokens: 96, prompts_per_part: 8, batch_tokens: 16384}
warmup:
  beta: 2.0
  learning_rate: 1.0e-3
  per_device_train_batch_size: 16
  lora: {r: 8, target_modules: [q_proj, v_proj]}
  save_steps: 5
distill:
  objective: taid
  teacher_signal: hidden
  completions: {source: teacher, max_new_tokens: 96}
  lora: {r: 8, target_modules: [q_proj, v_proj, up_proj]}
  learning_rate: 1.0e-3
  per_device_train_batch_size: 8
  num_train_epochs: 3
  save_steps: 5
evaluate:
  benchmarks:
    - {name: problems, dataset: 'bundled:problems', split: test, limit: 120}
""",
}
SHORTEST = 6.0
"""Seconds before a kill: a process needs some of them to start."""


def command(recipe: Path, folder: Path) -> list[str]:
    return [
        sys.executable, "-m", "warmup_distill", "run", str(recipe), "--output-dir", str(folder)
    ]  # fmt: skip


def run_through(recipe: Path, folder: Path) -> float:
    """Seconds of a run that nothing interrupts."""
    began = time.perf_counter()
    subprocess.run(command(recipe, folder), check=True, capture_output=True)
    return time.perf_counter() - began


def run_with_kills(
    recipe: Path, folder: Path, kills: int, whole: float, draw: random.Random
) -> list[str]:
    """Run until done, with kills at random instants; returns what was open at each of them."""
    open_stages: list[str] = []
    while len(open_stages) < kills:
        process = subprocess.Popen(
            command(recipe, folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            process.communicate(timeout=draw.uniform(SHORTEST, SHORTEST + whole / 4))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            open_stages.append(open_stage(folder))
            print(f"kill {len(open_stages)}: {open_stages[-1]}", flush=True)
            continue
        if process.returncode:
            raise SystemExit("a run that was started again failed")
        drop_last(folder, draw)
    run_through(recipe, folder)
    return open_stages


def open_stage(folder: Path) -> str:
    """The stage that was at work, or what came before any of them."""
    if not (folder / "manifest.json").exists():
        return "start"
    stages = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    done = [stage for stage, facts in stages.items() if facts["state"] == "complete"]
    order = [
        "prompts",
        "cut",
        "rollouts",
        "pairs",
        "warmup",
        "distill",
        "control",
        "evaluate",
        "report",
    ]
    return next((stage for stage in order if stage not in done), "done")


def drop_last(folder: Path, draw: random.Random) -> None:
    """Through before the kills were spent: forget a stage and what follows, and go on killing."""
    stages = ["rollouts", "warmup", "distill", "control", "evaluate"]
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    order = list(manifest["stages"])
    first = order.index(draw.choice(stages))
    for stage in order[first:]:
        del manifest["stages"][stage]
        shutil.rmtree(folder / stage, ignore_errors=True)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def compare(one: Path, other: Path) -> dict[str, Any]:
    """What is lost, there twice, or different."""
    keys = [
        [(r.prompt_id, r.sample_index) for path in sorted((run / "rollouts").iterdir())
         for r in read_records(path, Rollout)]
        for run in (one, other)
    ]  # fmt: skip
    files = [path.relative_to(one) for part in ("prompts", "rollouts", "pairs")
             for path in (one / part).iterdir()]  # fmt: skip
    files += [path.relative_to(one) for path in (one / "evaluate").rglob("*.*")]
    different = sum((one / f).read_bytes() != (other / f).read_bytes() for f in files)
    weights = 0
    for model in ("cut", "warmup", "distill", "control"):
        if not (one / model).exists():
            continue
        pair = [load_file(run / model / "model.safetensors") for run in (one, other)]
        weights += sum(not torch.equal(pair[0][name], pair[1][name]) for name in pair[0])
    return {
        "rollouts_lost": len(set(keys[0]) - set(keys[1])),
        "rollouts_twice": len(keys[1]) - len(set(keys[1])),
        "files": len(files),
        "files_different": different,
        "weights_different": weights,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", choices=RECIPES, default="quickstart")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    recipe = options.folder / "soak.yaml"
    recipe.write_text(RECIPES[options.recipe], encoding="utf-8")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    whole, killed = options.folder / "whole", options.folder / "killed"
    seconds = run_through(recipe, whole)
    print(f"uninterrupted: {seconds:.0f} s", flush=True)
    stages = run_with_kills(recipe, killed, options.kills, seconds, random.Random(options.seed))
    found: dict[str, Any] = {"recipe": options.recipe, "threads": options.threads}
    found |= {"kills": len(stages), "in": {s: stages.count(s) for s in dict.fromkeys(stages)}}
    found |= compare(whole, killed)
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
