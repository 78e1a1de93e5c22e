"""Ray's folder: short, gone at the end, and nobody else's is touched."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from warmup_distill.cluster.folder import LOCK, PREFIX, RayFolder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files."""
    monkeypatch.setattr("warmup_distill.cluster.folder.LONGEST", 4096)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def grow_old(path: Path) -> None:
    os.utime(path, (time.time() - 3600,) * 2)


def test_nobody_else_gets_into_it_whatever_ray_does_inside() -> None:
    folder = RayFolder()
    folder.sessions.mkdir(mode=0o777)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.path in folder.sessions.parents
    folder.close()


def test_it_is_gone_when_it_is_closed(temporary: Path) -> None:
    folder = RayFolder()
    (folder.sessions / "session_1" / "logs").mkdir(parents=True)
    (folder.sessions / "session_latest").symlink_to("session_1")
    assert folder.logs.is_dir()
    folder.close()
    assert not list(temporary.iterdir())


def test_what_is_kept_is_there_after_the_end_and_after_the_next_start() -> None:
    folder = RayFolder()
    (folder.path / "log").touch()
    folder.keep()
    folder.close()
    grow_old(folder.path)
    RayFolder().close()
    assert [path.name for path in folder.path.iterdir()] == ["log"]


def test_the_next_start_removes_what_a_killed_process_left_and_nothing_else(
    temporary: Path,
) -> None:
    held, forsaken, strange, fresh = RayFolder(), *(temporary / f"{PREFIX}{n}" for n in range(3))
    for folder in (forsaken, strange, fresh):
        (folder / "session").mkdir(parents=True)
    for folder in (forsaken, fresh):
        (folder / LOCK).touch()
    outside = temporary / "outside"
    outside.mkdir()
    (outside / LOCK).touch()
    (temporary / f"{PREFIX}link").symlink_to(outside)
    for folder in (held.path, forsaken, strange, outside):
        grow_old(folder)
    RayFolder().close()
    left = {path.name for path in temporary.iterdir()}
    assert left == {held.path.name, strange.name, fresh.name, "outside", f"{PREFIX}link"}
    held.close()


def test_a_long_name_gives_way_to_one_that_a_socket_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmup_distill.cluster.folder.LONGEST", 40)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 40)))
    folder = RayFolder()
    # as Ray names them: the session by time and process, then sockets/plasma_store
    socket = folder.sessions / "session_2026-01-01_00-00-00_000000_4194304" / "sockets/plasma_store"
    assert len(str(socket)) < 107
    folder.close()
