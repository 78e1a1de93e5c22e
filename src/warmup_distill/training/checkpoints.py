"""Checkpoints that are whole: a seal with sizes and hashes is written last.

`transformers` writes a checkpoint's files one after the other and takes the one with the highest
number, whole or not; a missing optimizer state it passes over in silence. So resuming asks here.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from warmup_distill.errors import RunError
from warmup_distill.foreign.reading import stays_inside
from warmup_distill.foreign.showing import brief
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.checking import recorded
from warmup_distill.store.hashing import facts
from warmup_distill.store.removing import remove_files
from warmup_distill.training.ranks import wait_for_all

logger = logging.getLogger(__name__)

SEAL = "seal.json"
KEPT = 2
"""Checkpoints of a training at any time: one to go on from, and one to fall back on."""


class Sealing(TrainerCallback):
    """Seals every checkpoint when all of it is written, and removes those that are too many.

    Args:
        about: what the training depends on; a checkpoint serves no other.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.about = about

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wait_for_all()  # each process has written its random state
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        _drop_unread(folder)
        seal(folder, self.about)
        _thin_out(folder.parent, self.about)


def _drop_unread(folder: Path) -> None:
    """Remove what `transformers` has just written and nothing reads: a pickle, and peft's card."""
    (folder / "training_args.bin").unlink(missing_ok=True)
    if (folder / "adapter_config.json").is_file():
        (folder / "README.md").unlink(missing_ok=True)


def seal(folder: Path, about: Mapping[str, Any]) -> None:
    """Write the seal of a folder whose files are all there."""
    there = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in there]  # shards have a folder below
    files = recorded(folder, (name for name in names if name != SEAL))
    write_json(folder / SEAL, {"about": about, "files": files})


def newest_whole(folder: Path, about: Mapping[str, Any]) -> Path | None:
    """The checkpoint to go on from: the newest whose files are as they were sealed.

    Raises:
        RunError: it belongs to another training; what differs is named.
    """
    for checkpoint in _newest_first(folder):
        found = _read_seal(checkpoint)
        fault = _fault(checkpoint, found["files"]) if found else "it was never sealed"
        if found and fault is None and about.keys() - found["about"].keys():
            fault = "of an earlier version, it does not say all that it depends on"
        if found and fault is None:
            _require_same(found["about"], about, checkpoint)
            return checkpoint
        logger.warning("%s is not whole (%s); looking for one before it", checkpoint, fault)
    return None


def _thin_out(folder: Path, about: Mapping[str, Any]) -> None:
    """Remove all checkpoints of a training but the newest, by the names in their seals."""
    seals = [(checkpoint, _read_seal(checkpoint)) for checkpoint in _newest_first(folder)]
    ours = [(checkpoint, found) for checkpoint, found in seals if found and found["about"] == about]
    for checkpoint, found in ours[KEPT:]:
        remove_files([checkpoint / name for name in (SEAL, *found["files"])], above=folder)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step, reverse=True)


def _read_seal(checkpoint: Path) -> dict[str, Any] | None:
    """The seal of a checkpoint; None if it has none, or one that says nothing of its files."""
    try:
        found = read_json(checkpoint / SEAL)
    except RunError:
        return None
    parts = (found.get("about"), found.get("files")) if isinstance(found, dict) else (None,)
    if not all(isinstance(part, dict) for part in parts):
        return None
    return found if all(map(stays_inside, found["files"])) else None


def _fault(checkpoint: Path, files: Mapping[str, Any]) -> str | None:
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if facts(path) != expected:
            return f"{name} has changed"
    return None


def _require_same(theirs: Mapping[str, Any], ours: Mapping[str, Any], checkpoint: Path) -> None:
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    if keys:
        lines = [
            f"  {key}: {brief(theirs.get(key))} there, {brief(ours.get(key))} here" for key in keys
        ]
        raise RunError(
            "\n".join(
                [
                    f"{checkpoint} belongs to another training:",
                    *lines,
                    f"Remove {checkpoint.parent} to train from the start.",
                ]
            )
        )


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1
