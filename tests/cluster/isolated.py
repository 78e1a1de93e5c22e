"""Processes that see no network but their own loopback: Ray listens on every interface it finds."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def apart(*command: str) -> list[str]:
    """A command inside a network namespace of its own, as whoever may make one."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = 'ip link set lo up && exec "$@"'
    return ["unshare", "--net", *user, "sh", "-c", script, "sh", *command]


def require_isolation() -> None:
    """Skip where Ray is not installed, or no network namespace can be made."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: Ray is only started where nobody can reach it")
    if subprocess.run(apart("true"), capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody make a network namespace")


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Python in isolation, in a process group of its own; its output goes to a file."""
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        return subprocess.Popen(
            apart(sys.executable, *arguments), cwd=folder, env=ENVIRONMENT, text=True,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def finish(process: subprocess.Popen[str], folder: Path, seconds: float = 600) -> str:
    """Wait for a process to end well; returns what it said."""
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        code = -1
    said = (folder / "output.txt").read_text(encoding="utf-8")
    assert code == 0, said[-4000:]
    return said


def run(*arguments: str, folder: Path) -> str:
    """The program in isolation, to its end."""
    return finish(start("-m", "warmup_distill", *arguments, folder=folder), folder)


def busy_workers(root: int) -> list[int]:
    """Processes below another one that compute a part at this moment."""
    return [pid for pid in below(root) if _title(pid).startswith("ray::compute_part")]


def training_workers(root: int) -> list[int]:
    """Processes below another one that train together."""
    return [pid for pid in below(root) if "TrainWorker" in _title(pid)]


def below(root: int) -> list[int]:
    """All processes that descend from one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has just ended
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        some = children.get(waiting.pop(), [])
        found += some
        waiting += some
    return found


def is_there(pid: int) -> bool:
    """Whether a process lives, or is at least not forgotten yet."""
    return Path(f"/proc/{pid}").exists()


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def differing(one: Path, other: Path, names: Sequence[str]) -> list[str]:
    """Files below these folders that two runs do not have alike, by their bytes."""
    files = {
        path.relative_to(run)
        for run in (one, other)
        for name in names
        for path in (run / name).rglob("*")
        if path.is_file()
    }
    assert files
    return [
        str(file)
        for file in sorted(files)
        if not ((one / file).is_file() and (other / file).is_file())
        or (one / file).read_bytes() != (other / file).read_bytes()
    ]
