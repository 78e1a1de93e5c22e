"""Checkpoints that are whole: a seal with sizes and hashes is written last.

`transformers` writes a checkpoint's files one after the other and takes the one with the highest
number, whole or not; a missing optimizer state it passes over in silence. So resuming asks here.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from warmup_distill.errors import RunError
from warmup_distill.store.artifacts import read_json, write_json

logger = logging.getLogger(__name__)

SEAL = "seal.json"


class Sealing(TrainerCallback):
    """Seals every checkpoint when all of it is written.

    Args:
        about: what the training depends on; a checkpoint serves no other.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        self.about = about

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        seal(folder, self.about)


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Write the seal of a folder whose files are all there."""
    files = {path.name: _facts(path) for path in sorted(folder.iterdir()) if path.name != SEAL}
    write_json(folder / SEAL, {"about": about, "files": files})


def newest_whole(folder: Path, about: dict[str, Any]) -> Path | None:
    """The checkpoint to go on from: the newest whose files are as they were sealed.

    Raises:
        RunError: it belongs to another training; what differs is named.
    """
    found = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step, reverse=True)
    for checkpoint in found:
        fault = _fault(checkpoint)
        if fault is None:
            _require_same(read_json(checkpoint / SEAL)["about"], about, checkpoint)
            return checkpoint
        logger.warning("%s is not whole (%s); looking for one before it", checkpoint, fault)
    return None


def _fault(checkpoint: Path) -> str | None:
    try:
        files = read_json(checkpoint / SEAL)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "it was never sealed"
    for name, facts in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if _facts(path) != facts:
            return f"{name} has changed"
    return None


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _require_same(theirs: dict[str, Any], ours: dict[str, Any], checkpoint: Path) -> None:
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    if keys:
        lines = [f"  {key}: {theirs.get(key)!r} there, {ours.get(key)!r} here" for key in keys]
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
