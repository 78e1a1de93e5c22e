"""Folders of many runs: a file in them says that they are ours, and what of."""

from pathlib import Path

from warmup_distill.errors import RunError
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.leaves import HOLDER, LOCK


def claim(folder: Path, marker: str, meanings: dict[str, str]) -> None:
    """Take a folder that is empty, or that was taken for the same before; more may join.

    Args:
        folder: that is held.
        marker: name of the file that says so.
        meanings: by name a digest of what each thing in the folder is made of.

    Raises:
        RunError: the folder holds something else, or something else by one of the names.
    """
    path = folder / marker
    known: dict[str, str] = read_json(path) if path.is_file() else {}
    others = sorted(one.name for one in folder.iterdir() if one.name not in (LOCK, HOLDER))
    if others and not path.is_file():
        raise RunError(
            f"{folder} holds {others[0]} and has no {marker}, so it is not ours to write into. "
            "Name another folder with --output-dir."
        )
    changed = [name for name, meaning in meanings.items() if known.get(name, meaning) != meaning]
    if changed:
        raise RunError(
            f"{folder} holds {changed[0]} made by another recipe. Name another folder with "
            "--output-dir, or change back what was changed."
        )
    if known != known | meanings:
        write_json(path, known | meanings)
