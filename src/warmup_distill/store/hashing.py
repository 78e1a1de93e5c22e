"""Hashes of whole files, and a cache that keeps asking for them cheap.

SHA-256, because it is in Python, because `sha256sum` gives the same, and because nobody can make
another file with the same one. A file's hash is kept under its path, size, times, device and inode.
"""

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.store.artifacts import write_json

LARGE = 2**20
"""Bytes from which a hash is kept: a smaller file is read as fast as its entry would be."""

RECENT = 2 * 10**9
"""Nanoseconds after a change in which another one may leave the same times on a file.

As git does with its index: the hash of a file that changed so recently is not kept.
"""


def facts(path: Path) -> dict[str, Any]:
    """Size and hash of a file, as manifests and seals hold them."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """The hash of all bytes of a file."""
    with path.open("rb") as file:
        before = _state(path, file.fileno())
        entry = _entry(path) if before["size"] >= LARGE else None
        known = _recall(entry, before) if entry else None
        if known:
            return known
        began = time.time_ns()
        found = hashlib.file_digest(file, "sha256").hexdigest()
        after = _state(path, file.fileno())
    changed = max(before["mtime_ns"], before["ctime_ns"])
    if entry and before == after and changed + RECENT < began:
        _remember(entry, {"file": before, "sha256": found})
    return found


def cache_folder() -> Path:
    """Where this program keeps what it can make again.

    Raises:
        RunError: this user has no home.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # A relative one is to be ignored, says the XDG Base Directory Specification.
        base = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise RunError(
            "expected a home folder for ~/.cache, but this user has none. Set XDG_CACHE_HOME to a "
            "folder that can be written to."
        ) from error
    return base / "warmup-distill"


def _state(path: Path, descriptor: int) -> dict[str, Any]:
    """What tells a file from others and from itself after a change.

    The time of change stands beside that of modification because nobody can set it back.
    """
    found = os.fstat(descriptor)
    names = ("size", "mtime_ns", "ctime_ns", "dev", "ino")
    return {"path": os.fsdecode(path.absolute())} | {
        name: getattr(found, f"st_{name}") for name in names
    }


def _entry(path: Path) -> Path | None:
    """The file of a path's hash: one for each, so that processes do not wait for each other."""
    try:
        name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
        return cache_folder() / "hashes" / f"{name}.json"
    except RunError:
        return None


def _recall(entry: Path, state: dict[str, Any]) -> str | None:
    """A hash that was kept; None if there is none, or if its entry is not to be understood."""
    try:
        kept = json.loads(entry.read_bytes())
        good = kept["file"] == state and re.fullmatch("[0-9a-f]{64}", kept["sha256"])
        return str(kept["sha256"]) if good else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _remember(entry: Path, kept: dict[str, Any]) -> None:
    try:
        write_json(entry, kept)
    except (OSError, RunError, UnicodeEncodeError):
        return  # a cache that cannot be written costs time, and nothing else
