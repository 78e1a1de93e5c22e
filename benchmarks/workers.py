"""What workers give and what Ray costs: rollouts and evaluation of the quickstart, in turns.

    python benchmarks/workers.py --json workers.json
    python benchmarks/workers.py --prompts 100 --repeats 1     a few minutes, to see that it runs

Without Ray, with one worker and with two, each with one thread: whole processes, from their start
to their end, on the same run directory. What comes out must be the same bytes. Beside the seconds
stand those until the first part is on the disk: what one worker is later than a process without
Ray is what Ray and its processes take to start.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import finish
from isolation import isolate
from resident import Resident

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"
WAYS = {"without Ray": [], "1 worker": ["--workers", "1"], "2 workers": ["--workers", "2"]}
STAGES = {"rollouts": ["prompts"], "evaluate": ["prompts", "rollouts", "pairs", "warmup", "control",
                                                 "distill"]}  # fmt: skip
"""What is timed, and the stages before it."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One process from its start to its end."""

    stage: str
    way: str
    seconds: float
    first_part: float
    """Seconds until the first part was on the disk."""
    resident: Resident
    made: str
    """A digest of all that the stage has left."""


def main() -> None:
    options = parsed()
    isolate()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    folder: Path = options.folder
    whole = folder / f"whole-{options.prompts}"
    prepare(whole, options.prompts)
    turns = [
        take_turn(stage, way, whole, folder / "turn", options.prompts)
        for _ in range(options.repeats)
        for way in WAYS
        for stage in STAGES
    ]
    shutil.rmtree(folder / "turn")
    found = [{"name": stage} | summary(stage, turns) for stage in STAGES]
    finish([*found, *map(asdict, turns)], options.json)


def command(stage: str, folder: Path, prompts: int, more: Sequence[str] = ()) -> list[str]:
    limits = [f"{name}={prompts}" for name in ("prompts.limit", "evaluate.benchmarks.0.limit")]
    given = [word for limit in limits for word in ("--set", limit)]
    return [sys.executable, "-m", "warmup_distill", stage, str(RECIPE),
            "--output-dir", str(folder), *given, *more]  # fmt: skip


def prepare(whole: Path, prompts: int) -> None:
    """A finished run to take stages from."""
    if not (whole / "report" / "index.html").exists():
        print("preparing: a whole run without Ray", flush=True)
        subprocess.run(command("run", whole, prompts), check=True, capture_output=True)


def take_turn(stage: str, way: str, whole: Path, folder: Path, prompts: int) -> Turn:
    """Compute a stage anew in a folder that has what comes before it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifest = json.loads((whole / "manifest.json").read_text(encoding="utf-8"))
    manifest["stages"] = {name: manifest["stages"][name] for name in STAGES[stage]}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    shutil.copy(whole / "recipe.yaml", folder)
    for name in STAGES[stage]:
        shutil.copytree(whole / name, folder / name)
    words = command(stage, folder, prompts, WAYS[way])
    began, first, resident = time.perf_counter(), None, Resident()
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.1)
            resident = resident.most(Resident.below(process.pid))
            if first is None and any((folder / stage).rglob("part-*.parquet")):
                first = time.perf_counter() - began
    seconds = time.perf_counter() - began
    if process.returncode or first is None:
        raise SystemExit(f"it failed: {(folder / 'output.txt').read_text(errors='replace')}")
    print(f"{stage}, {way}: {seconds:.1f} s, the first part after {first:.1f} s, {resident}",
          flush=True)  # fmt: skip
    return Turn(stage=stage, way=way, seconds=seconds, first_part=first, resident=resident,
                made=digest(folder / stage))  # fmt: skip


def digest(folder: Path) -> str:
    """Of the names and bytes of all files below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.*")):
        if path.is_file():
            found.update(f"{path.relative_to(folder)} ".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def summary(stage: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """Two workers against one, and one against none."""
    none, one, two = ([t for t in turns if (t.stage, t.way) == (stage, way)] for way in WAYS)
    ratios = [a.seconds / b.seconds for a, b in zip(one, two, strict=True)]
    longer = [a.seconds - b.seconds for a, b in zip(one, none, strict=True)]
    later = [a.first_part - b.first_part for a, b in zip(one, none, strict=True)]
    more = [statistics.median(t.resident.all for t in some) for some in (none, one, two)]
    same = len({turn.made for turn in (*none, *one, *two)}) == 1
    print(
        f"{stage}: 2 workers are {spread(ratios)} times as fast as 1\n"
        f"{stage}: 1 worker takes {spread(longer)} s longer than no Ray, and its first part comes "
        f"{spread(later)} s later\n"
        f"{stage}: {more[1] - more[0]:.0f} MiB more with 1 worker, {more[2] - more[0]:.0f} with 2, "
        f"of which Ray's own processes {max(t.resident.ray for t in two):.0f}\n"
        f"{stage}: the bytes of all turns are {'the same' if same else 'NOT the same'}"
    )
    return {
        "ratio": of(ratios), "seconds_longer": of(longer), "first_part_later": of(later),
        "mib_more": {"1 worker": more[1] - more[0], "2 workers": more[2] - more[0]},
        "same_bytes": same,
    }  # fmt: skip


def of(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def spread(values: Sequence[float]) -> str:
    found = of(values)
    return f"{found['median']:.2f} ({found['least']:.2f} to {found['most']:.2f})"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=2000, help="and as many held-out problems")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/workers"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
