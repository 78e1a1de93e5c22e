"""The teacher's signal on disk, for more than one pass over the same rows.

Hidden states with the teacher's head give back its logits exactly, and are smaller by the ratio of
vocabulary to width (42 times for Qwen2.5-7B). The top-k log-probabilities with one bucket for the
rest are smaller still, and serve forward KL alone. Rows are known by their numbers, never by the
step in which they came.

Shape letters: N completion token of all rows, K kept token, E width of the hidden states.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warmup_distill.store.artifacts import read_json

ABOUT = "about.json"
ROWS_PER_PART = 1024
"""Rows whose signal is written together; an interruption costs no more."""


class TeacherSignals:
    """What the teacher says of some rows, on disk in parts.

    Args:
        folders: of the parts, in order, made by `signalling.write_signals`.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.parts = [_Part(folder) for folder in folders]

    @property
    def need_head(self) -> bool:
        """Whether the teacher's head makes logits of them."""
        return any(path.stem == "hidden" for part in self.parts for path in part.paths)

    def of(self, rows: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """The signal of some rows, one after the other, by name."""
        found = [self.parts[row // ROWS_PER_PART].of(row % ROWS_PER_PART) for row in rows]
        return {
            name: torch.from_numpy(np.concatenate([one[name] for one in found])).to(device)
            for name in found[0]
        }


class _Part:
    """Arrays [N, …] on disk, opened when they are read, and where each row begins."""

    def __init__(self, folder: Path) -> None:
        about = read_json(folder / ABOUT)
        self.starts: list[int] = about["starts"]
        self.paths = [folder / name for name in about["files"]]

    def of(self, row: int) -> dict[str, Any]:
        span = slice(self.starts[row], self.starts[row + 1])
        return {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)[span] for path in self.paths
        }
