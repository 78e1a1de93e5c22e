"""Real file systems that are full or read-only: one message, and everything before is whole."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_run import small_recipe

from warmup_distill.pipeline import opened, run_stage

TESTS = Path(__file__).parents[1]


def mounted(mount: str, place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where something is mounted that nobody else sees."""
    inside = f"{mount} {shlex.quote(str(place))} && {shlex.join(command)}"
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])},
    )


READ_ONLY = 'ro() { mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"; }; ro'


@pytest.fixture(scope="module", autouse=True)
def mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where this user may not mount anything."""
    place = tmp_path_factory.mktemp("mount")
    if not shutil.which("unshare") or mounted("mount -t tmpfs t", place, "true").returncode:
        pytest.skip("this system lets nobody mount anything")


def test_the_teacher_s_signal_on_a_full_disk_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    code = f"""
import errno, sys
from pathlib import Path
from warmup_distill.cluster.places import Here
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.training.signalling import Signalling, write_signals
task = Signalling(
    teacher=ModelRef.of("bundled:teacher", "float32"), kind="hidden", top_k=5, temperature=1.0,
    vocabulary=Vocabulary(size=40, eos_ids=frozenset({{1}}), pad_id=0),
)
rows = [{{"prompt_ids": [5, 6, 7], "completion_ids": [8] * 90}} for _ in range(100)]
folder = Path({str(tmp_path)!r}) / "signals"
try:
    write_signals(Here(), task, rows, folder)
except OSError as error:
    print(error.errno == errno.ENOSPC, list(folder.rglob("*")))
"""
    done = mounted("mount -t tmpfs -o size=500k t", tmp_path, sys.executable, "-c", code)
    assert (done.returncode, done.stdout) == (0, "True []\n"), done.stderr


def test_a_run_on_a_read_only_disk_is_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with opened(small_recipe(), folder) as session:
        for stage in ("prompts", "rollouts", "pairs"):
            run_stage(session, stage)
    program = (sys.executable, "-m", "warmup_distill")
    for command, words in (
        (("export", str(folder), "--to", "trl"), "cannot be written: Read-only file system"),
        (("evaluate", str(folder), "--suite", "problems", "--limit", "1"), "Read-only file system"),
    ):
        done = mounted(READ_ONLY, folder, *program, *command)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
