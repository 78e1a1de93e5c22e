"""Stages that one run takes over from another, whose recipe says the same of them.

Files are shared by hard links where the file system has them, and copied elsewhere: no file of a
run is ever changed in its place, so what one run does later cannot reach another.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from warmup_distill.store.artifacts import parts_in
from warmup_distill.store.leaves import require_no_links
from warmup_distill.store.manifest import Manifest, is_complete
from warmup_distill.store.writing import replacing


def take_over(folder: Path, stage: str, fingerprint: str, others: Iterable[Path]) -> Path | None:
    """Take a stage over from the first other run that has it, whole and with this fingerprint.

    Args:
        folder: of a run that has not begun the stage.

    Returns:
        The run that it came from; None if no other has it.
    """
    manifest = Manifest(folder)
    for other in others:
        there = Manifest(other)
        entries = there.entries
        same = is_complete(entries, stage) and entries[stage]["fingerprint"] == fingerprint
        if not same or there.faults([stage]).get(stage):
            continue
        require_no_links(folder, [stage])
        for name in entries[stage]["files"]:
            share(other / name, folder / name)
        manifest.enter(stage, entries[stage])
        return other
    return None


def lend_parts(folder: Path, stage: str, others: Iterable[Path]) -> None:
    """Give a run the parts of a stage that the first other run has, which judge themselves."""
    for other in others:
        parts = parts_in(other / stage)
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
