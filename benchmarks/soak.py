"""Kill a run at random instants until it is through, and look for anything lost or different.

    python benchmarks/soak.py --kills 40 --json soak.json
    python benchmarks/soak.py --kills 40 --recipe everything --threads 2
    python benchmarks/soak.py --kills 0 --threads 4      two runs that nothing interrupts
    python benchmarks/soak.py --workers 2 --threads 1    20 kills of the driver, workers, machines

A small run of all stages on the bundled pair is killed (SIGKILL) again and again at random
instants, and started again with the same command. Then every file of rollouts and pairs must be
the same bytes as in a run that nothing interrupted, and every weight the same number.

With `--workers` it runs on that many machines of Ray, all of them on this one. A kill hits the
driver, a worker at work, or a machine with all its processes; only after the first is anything
started again.

The same command goes on with a soak that was interrupted; a new one needs its folder removed.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from isolation import isolate
from safetensors.torch import load_file
from soak_recipes import RECIPES

from warmup_distill.records import Rollout
from warmup_distill.store.artifacts import read_records

SHORTEST = 6.0
"""Seconds before a kill: a process needs some of them to start."""


Killer = Callable[[subprocess.Popen[bytes], random.Random], bool]
"""Kills something of a run; tells whether there was anything to kill."""


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What is killed, and how.

    Args:
        folder: of the recipe, both runs, and the kills so far.
        more: words of the command besides.
        killers: by what they kill; a run ends of `driver` alone.
    """

    folder: Path
    more: list[str]
    killers: Mapping[str, Killer]
    seed: int

    def start(self, run: str) -> subprocess.Popen[bytes]:
        """A run in a folder of its own; what it says goes into a file."""
        command = [sys.executable, "-m", "warmup_distill", "run", str(self.folder / "soak.yaml"),
                   "--output-dir", str(self.folder / run), *self.more]  # fmt: skip
        with (self.folder / f"{run}.txt").open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def run_through(self, run: str) -> float:
        """Seconds of a run that nothing interrupts."""
        began = time.perf_counter()
        self.finish(self.start(run))
        return time.perf_counter() - began

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            raise SystemExit(f"a run failed: its last words are in {self.folder}")

    def run_with_kills(self, kills: list[list[str]], wanted: int, whole: float) -> None:
        """Run until done, with kills at random instants.

        Args:
            kills: those so far, each as what was killed, and what was open then; they grow.
            whole: seconds of a run that nothing interrupts.
        """
        draw = random.Random(f"{self.seed} {len(kills)}")
        while len(kills) < wanted:
            process = self.start("killed")
            while len(kills) < wanted and not self.ends(process, whole, draw):
                what = draw.choice(least_killed(self.killers, kills))
                stage = open_stage(self.folder / "killed")
                if self.killers[what](process, draw):
                    kills.append([what, stage])
                    print(f"kill {len(kills)}: {what}, in {stage}", flush=True)
                    write(self.folder / "kills.json", {"seconds": whole, "kills": kills})
                if what == "driver":
                    break
            else:
                self.finish(process)
                if len(kills) < wanted:
                    drop_last(self.folder / "killed", draw)
        self.run_through("killed")

    def ends(self, process: subprocess.Popen[bytes], whole: float, draw: random.Random) -> bool:
        """Whether a run ends before a random instant."""
        try:
            process.wait(draw.uniform(SHORTEST, SHORTEST + whole / 4))
        except subprocess.TimeoutExpired:
            return False
        return True


def least_killed(killers: Mapping[str, Killer], kills: list[list[str]]) -> list[str]:
    """What was killed no more often than all else."""
    counts = Counter(dict.fromkeys(killers, 0) | Counter(what for what, _ in kills))
    return [what for what in killers if counts[what] == min(counts.values())]


def kill_driver(process: subprocess.Popen[bytes], draw: random.Random) -> bool:
    process.kill()
    process.wait()
    return True


def killers_of(workers: int) -> tuple[dict[str, Killer], list[str]]:
    """What can be killed, and the words of a command that runs where it can."""
    if not workers:
        return {"driver": kill_driver}, []
    from machines import Machines  # needs Ray

    machines = Machines(workers)
    more = ["--workers", str(workers), "--ray-address", machines.address]
    settings = [
        "cluster.part_timeout=20", "cluster.max_failures=20",
        "warmup.num_train_epochs=5", "distill.num_train_epochs=8",  # longer than they take to start
    ]  # fmt: skip
    more += [word for setting in settings for word in ("--set", setting)]
    return {
        "driver": kill_driver,
        "worker": lambda process, draw: machines.kill_worker(draw),
        "machine": lambda process, draw: machines.kill_machine(draw),
    }, more


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def open_stage(folder: Path) -> str:
    """The stage that is at work, or that it is none."""
    if not (folder / "manifest.json").exists():
        return "start"
    stages = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    begun = (stage for stage, facts in stages.items() if facts["state"] != "complete")
    return next(begun, "between")


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
    options = parsed()
    if options.workers:
        isolate()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    about = {name: getattr(options, name) for name in ("recipe", "threads", "workers", "seed")}
    folder: Path = options.folder
    prepare(folder, about)
    killers, more = killers_of(options.workers)
    soak = Soak(folder=folder, more=more, killers=killers, seed=options.seed)
    path = folder / "kills.json"
    if not path.exists():
        write(path, {"seconds": soak.run_through("whole"), "kills": []})
    known = json.loads(path.read_text(encoding="utf-8"))
    print(f"uninterrupted: {known['seconds']:.0f} s", flush=True)
    soak.run_with_kills(known["kills"], options.kills, known["seconds"])
    found: dict[str, Any] = about | {"kills": len(known["kills"])}
    found |= {"of": Counter(what for what, _ in known["kills"])}
    found |= {"in": Counter(stage for _, stage in known["kills"])}
    found |= compare(folder / "whole", folder / "killed")
    print(json.dumps(found, indent=2))
    if options.json:
        write(options.json, found)


def prepare(folder: Path, about: dict[str, Any]) -> None:
    """A folder for a new soak, or that of an interrupted one of the same kind."""
    kept = folder / "about.json"
    if kept.exists() and json.loads(kept.read_text(encoding="utf-8")) == about:
        return
    if folder.exists() and not kept.exists():
        raise SystemExit(f"{folder} was not made by this program: name another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "soak.yaml").write_text(RECIPES[about["recipe"]], encoding="utf-8")
    write(kept, about)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, help="40, or 20 with --workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", choices=RECIPES, default="quickstart")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="on N machines of Ray")
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.kills is None:
        options.kills = 20 if options.workers else 40
    return options


if __name__ == "__main__":
    main()
