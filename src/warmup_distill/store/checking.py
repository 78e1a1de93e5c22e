"""What finished files held when they were recorded, and what has become of them since."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.store.artifacts import parts_in
from warmup_distill.store.hashing import facts
from warmup_distill.store.leaves import PARTS

Files = Mapping[str, Mapping[str, Any]]
"""Size and hash of files, by their paths below a folder."""


def recorded(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and hash of some files below a folder."""
    return {name: facts(folder / name) for name in names}


def faults(folder: Path, files: Files) -> list[str]:
    """A line for every file that is not as it was recorded.

    Raises:
        RunError: a file cannot be read.
    """
    found = []
    for name, expected in files.items():
        path = folder / name
        try:
            if not path.is_file():
                found.append(f"{path} is missing")
            elif path.stat().st_size != expected["bytes"] or facts(path) != expected:
                found.append(f"{path} has changed since it was written")
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}. Make it readable.") from error
    return found


def require_no_strays(folder: Path, stage: str, files: Files) -> None:
    """Raise a RunError if beside the parts of a finished stage there are more of them."""
    there = parts_in(folder / stage) if stage in PARTS else []
    for path in there:
        if path.relative_to(folder).as_posix() not in files:
            raise RunError(f"{path} was not made by this run. Move it away.")


def listed(lines: Sequence[str], most: int = 10) -> list[str]:
    """Lines under a heading, not all of them where there are many."""
    rest = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return [f"  {line}" for line in (*lines[:most], *rest)]


def is_recorded(stage: str, files: Any) -> bool:
    """Whether this is what a manifest says of a stage's files: such that lie in its folder."""
    return isinstance(files, dict) and all(
        _inside(stage, name) and isinstance(facts, dict) and facts.keys() == {"bytes", "sha256"}
        for name, facts in files.items()
    )


def _inside(stage: str, name: str) -> bool:
    path = PurePosixPath(name)
    return path.parts[:1] == (stage,) and ".." not in path.parts
