"""Where a Ray that we start keeps its sockets and logs: a folder of our own, gone at the end."""

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "wd-ray-"
LOCK = "lock"
"""In each such folder; whoever started it holds it for as long as it lives."""
LONGEST = 40
"""Characters of the folder's path: 107 are all that a socket's may have, and Ray adds to it."""
FRESH = 60.0
"""Seconds in which a folder without a holder may still get one."""


class RayFolder:
    """A new folder among the temporary files, for our eyes only; closed at the end."""

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        if len(f"{parent}/{PREFIX}12345678") > LONGEST:
            parent = Path("/tmp")
        _remove_forsaken(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = FileLock(self.path / LOCK)
        self._lock.acquire(timeout=0)

    @property
    def sessions(self) -> Path:
        """For Ray, which opens it to everybody: so it is inside."""
        return self.path / "ray"

    @property
    def logs(self) -> Path:
        """What Ray and its workers wrote."""
        return self.sessions / "session_latest" / "logs"

    def keep(self) -> None:
        """Leave it to whoever wants to read the logs: nothing removes it any more."""
        self._lock.release()
        (self.path / LOCK).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove it, unless it is kept."""
        if self._lock.is_locked:
            self._lock.release()
            _remove(self.path)


def _remove_forsaken(parent: Path) -> None:
    """Remove the folders of processes that were killed."""
    for path in parent.glob(f"{PREFIX}*"):
        if not _is_ours(path):
            continue
        lock = FileLock(path / LOCK)
        with contextlib.suppress(Timeout):  # whoever made it lives
            lock.acquire(timeout=0)
            lock.release()
            _remove(path)


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not (path / LOCK).is_file():
        return False
    there = path.stat()
    return there.st_uid == os.getuid() and time.time() - there.st_mtime > FRESH


def _remove(folder: Path) -> None:
    """The lock goes last: where a process of Ray still writes, the next start finishes the work."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
        shutil.rmtree(folder)
