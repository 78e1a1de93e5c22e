"""Writing that leaves no halves: a file or a folder appears whole, or not at all.

Everything is written to a temporary name of ours, fsynced and renamed. Nothing is written through
a symbolic link, and nothing that is not ours makes room.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from warmup_distill.errors import RunError
from warmup_distill.foreign.reading import is_full_disk

TEMPORARY = re.compile(r"\.warmup-distill-[0-9a-f]{16}\.tmp")
"""Names that only this program gives, to what is not whole yet."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which takes the place of `path` at the end of the block.

    Raises:
        RunError: `path` is a link, or nothing can be written there. A full disk stays an OSError.
    """
    with in_words(path):
        require_no_link(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_beside(path)
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `folder` at the end of the block.

    Where `folder` holds something already, files of the same names are replaced and all others
    stay: they are not ours to remove.

    Raises:
        RunError: as `replacing`.
    """
    with in_words(folder):
        require_no_link(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_beside(folder)
        temporary.mkdir()
        try:
            yield temporary
            for path in filter(Path.is_file, temporary.rglob("*")):
                _sync(path)
            _settle(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _settle(temporary: Path, folder: Path) -> None:
    """One rename where nothing is in the way, which `rename` itself knows; else file by file."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        for path in filter(Path.is_file, sorted(temporary.rglob("*"))):
            target = folder / path.relative_to(temporary)
            require_no_link(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)


def require_no_link(path: Path) -> None:
    """Raise a RunError if a symbolic link stands where a file or a folder of ours should be."""
    if path.is_symlink():
        raise RunError(
            f"{path} is a symbolic link, and this program writes and removes nothing through "
            "links. Put a real file or folder in its place, or name another folder."
        )


@contextlib.contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Say what the system refuses as an error of ours; a full disk stays what it is."""
    try:
        yield
    except OSError as error:
        if is_full_disk(error):
            raise
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}. Make it writable, or name "
            "another folder."
        ) from error


def _temporary_beside(path: Path) -> Path:
    return path.with_name(f".warmup-distill-{secrets.token_hex(8)}.tmp")


def _sync(path: Path) -> None:
    """Wait until a file is on the disk, and not only on its way there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
