"""One process per folder."""

import contextlib
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from warmup_distill.errors import RunError
from warmup_distill.foreign.showing import brief
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.leaves import HOLDER, LOCK, MANIFEST
from warmup_distill.store.removing import remove_empty, remove_files
from warmup_distill.store.stopping import leave_if_asked
from warmup_distill.store.writing import in_words, require_no_link

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process.

    Raises:
        RunError: another process holds it, which is named; or it cannot be held.
    """
    with in_words(folder), contextlib.ExitStack() as stack:
        made = [path for path in (folder, folder / LOCK) if not path.exists()]
        lock, holder = _lock(folder), folder / HOLDER
        with in_words(folder / LOCK):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                who = _who(holder)
                raise RunError(f"{folder} is in use by {who}. Wait for it, or stop it.") from None
        stack.callback(lock.release)
        stack.callback(_leave, folder, made)
        write_json(holder, {"process": os.getpid(), "host": platform.node()})
        kept = stack.pop_all()
    with kept:
        yield


def _leave(folder: Path, made: Sequence[Path]) -> None:
    """Forget who held a folder, and leave nothing behind where no run was begun."""
    remove_files([folder / HOLDER], above=folder)
    if not (folder / MANIFEST).exists():
        remove_files([path for path in made if path.name == LOCK], above=folder)
        remove_empty(made)


@contextlib.contextmanager
def in_turn(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder as soon as no other process does.

    Args:
        doing: what another process is at work on, for people who wait.

    Raises:
        Stopped: a signal came meanwhile.
    """
    with in_words(folder):
        lock = _lock(folder)
        waiting = False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=1 if waiting else 0)
            except Timeout:
                if not waiting:
                    logger.info("waiting for another process that is %s", doing)
                waiting = True
                leave_if_asked()
    try:
        yield
    finally:
        lock.release()


def _lock(folder: Path) -> FileLock:
    folder.mkdir(parents=True, exist_ok=True)
    for name in (LOCK, HOLDER):
        require_no_link(folder / name)
    return FileLock(folder / LOCK)


def _who(holder: Path) -> str:
    try:
        who = read_json(holder)
        return f"process {int(who['process'])} on {brief(who['host'])}"
    except (RunError, ValueError, KeyError, TypeError):
        return "another process"
