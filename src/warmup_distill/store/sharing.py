"""Stages that one run takes over from another, whose recipe says the same of them.

Files are shared by hard links where the file system has them, and copied elsewhere: no file of a
run is ever changed in its place, so what one run does later cannot reach another.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.store.artifacts import parts_in
from warmup_distill.store.leaves import require_no_links
from warmup_distill.store.manifest import Manifest, is_complete
from warmup_distill.store.writing import replacing


def take_over(folder: Path, stage: str, fingerprint: str, others: Iterable[Path]) -> Path | None:
    """Take a stage over from the first other run that has it, whole and with this fingerprint.

    Args:
        folder: of a run that has not begun the stage, or was killed while it took it over.

    Returns:
        The run that it came from; None if no other has it.
    """
    manifest = Manifest(folder)
    for other in others:
        entry = _whole_entry(other, stage, fingerprint)
        if entry is None:
            continue
        require_no_links(folder, [stage])
        manifest.enter(stage, {"state": "stale", "files": entry["files"]})
        for name in entry["files"]:
            share(other / name, folder / name)
        manifest.enter(stage, entry | {"from": other.name})
        return other
    return None


def _whole_entry(other: Path, stage: str, fingerprint: str) -> dict[str, Any] | None:
    """What another run says of a stage, if it has it whole; one that is damaged has nothing."""
    there = Manifest(other)
    try:
        entries = there.entries
        same = is_complete(entries, stage) and entries[stage]["fingerprint"] == fingerprint
        return entries[stage] if same and not there.faults([stage]).get(stage) else None
    except RunError:
        return None


def lend_parts(folder: Path, stage: str, others: Iterable[Path]) -> None:
    """Give a run the parts of a stage that the first other run has, which judge themselves."""
    for other in others:
        try:
            parts = parts_in(other / stage)
        except RunError:  # it is damaged
            continue
        for path in parts:
            if not (folder / stage / path.name).exists():
                share(path, folder / stage / path.name)
        if parts:
            return


def share(source: Path, target: Path) -> None:
    """The same file under another name, or a copy of it."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(source, temporary)
