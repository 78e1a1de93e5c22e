"""Removing what is ours, and nothing else: regular files by name, and folders that are empty."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from warmup_distill.store.writing import TEMPORARY, in_words, require_no_link


def remove_files(paths: Iterable[Path], above: Path) -> None:
    """Remove files that are ours, then the folders below `above` that this left empty.

    Raises:
        RunError: a link stands in the place of one of them; nothing was removed then.
    """
    there = [path for path in paths if path.is_symlink() or path.is_file()]
    for path in there:
        require_no_link(path)
    with in_words(above):
        for path in there:
            path.unlink(missing_ok=True)
    remove_empty({folder for path in there for folder in path.parents if above in folder.parents})


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of some folders that hold nothing, the innermost first."""
    for folder in sorted(folders, key=lambda one: len(one.parts), reverse=True):
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            with in_words(folder):
                folder.rmdir()


def sweep(folder: Path) -> None:
    """Remove what a killed process left half written directly inside a folder of ours."""
    with in_words(folder):
        for path in list(folder.iterdir()):
            if not TEMPORARY.fullmatch(path.name) or path.is_symlink():
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
