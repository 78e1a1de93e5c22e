"""The teacher's signal on disk, for more than one pass over the same rows.

Hidden states with the teacher's head give back its logits exactly, and are smaller by the ratio of
vocabulary to width (42 times for Qwen2.5-7B). The top-k log-probabilities with one bucket for the
rest are smaller still, and serve forward KL alone. Rows are known by their numbers, never by the
step in which they came.

Shape letters: N completion token of all rows, K kept token, E width of the hidden states.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from tqdm import tqdm

from warmup_distill.store.artifacts import read_json, remove, whole_folder, write_json
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.stopping import leave_if_asked
from warmup_distill.tree.pack import batches_by_size
from warmup_distill.tree.packed import PackedModel

Kind = Literal["hidden", "top_k"]
TOKENS_AT_ONCE = 4096
ROWS_PER_PART = 1024
"""Rows whose signal is written together; an interruption costs no more."""


class TeacherSignals:
    """What the teacher says of some rows, on disk in parts.

    Args:
        folders: of the parts, in order, made by `write_signals`.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.parts = [_Part(folder) for folder in folders]

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
        self.starts: list[int] = read_json(folder / "about.json")["starts"]
        self.paths = sorted(folder.glob("*.npy"))

    def of(self, row: int) -> dict[str, Any]:
        span = slice(self.starts[row], self.starts[row + 1])
        return {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)[span] for path in self.paths
        }


def write_signals(
    teacher: PackedModel,
    rows: Sequence[dict[str, Any]],
    folder: Path,
    kind: Kind,
    *,
    top_k: int,
    temperature: float,
    name: Any,
) -> TeacherSignals:
    """Run the teacher over rows once and keep what a divergence needs; parts that are there stay.

    Args:
        rows: `prompt_ids` and `completion_ids` each.
        folder: its parts appear whole or not at all.
        kind: hidden states [N, E], or the `top_k` likeliest tokens [N, K], their
            log-probabilities [N, K] and that of all others together [N].
        temperature: divides the logits before the top-k are taken.
        name: what tells this teacher from others.

    Raises:
        Stopped: a signal asked for it; the parts written are kept.
    """
    top = {"top_k": top_k, "temperature": temperature} if kind == "top_k" else {}
    starts = range(0, len(rows), ROWS_PER_PART)
    paths = [folder / f"part-{number:05d}" for number in range(len(starts))]
    for stray in set(folder.glob("*")) - set(paths):
        remove(stray)
    with teacher.following(), tqdm(total=len(rows), desc="teacher", unit="row") as bar:
        for path, start in zip(paths, starts, strict=True):
            some = rows[start : start + ROWS_PER_PART]
            known = digest([name, kind, top, some])
            about = path / "about.json"
            if about.exists() and read_json(about)["of"] == known:
                bar.update(len(some))
                continue
            with whole_folder(path) as temporary:
                ends = _fill(teacher, some, temporary, kind, top_k, temperature, bar.update)
                write_json(temporary / "about.json", {"of": known, "starts": ends})
            leave_if_asked()
    return TeacherSignals(paths)


@torch.inference_mode()
def _fill(
    teacher: PackedModel,
    rows: Sequence[dict[str, Any]],
    folder: Path,
    kind: Kind,
    top_k: int,
    temperature: float,
    advance: Callable[[int], object],
) -> list[int]:
    """Write the arrays of a part; returns where each row begins, and the end."""
    arrays: dict[str, Any] = {}
    starts = [0, *np.cumsum([len(row["completion_ids"]) for row in rows]).tolist()]
    sizes = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows]
    for batch in batches_by_size(sizes, TOKENS_AT_ONCE):
        columns = ([rows[i][name] for i in batch] for name in ("prompt_ids", "completion_ids"))
        hidden, _ = teacher.completion_hidden(*columns)
        signal = (
            {"hidden": hidden} if kind == "hidden" else _top(teacher, hidden, top_k, temperature)
        )
        counts = [len(rows[i]["completion_ids"]) for i in batch]
        for name, values in signal.items():
            _place(arrays, folder, name, values, starts, batch, counts)
        advance(len(batch))
    for array in arrays.values():
        array.flush()
    return starts


def _place(
    arrays: dict[str, Any], folder: Path, name: str, values: Tensor, starts: Sequence[int],
    batch: Sequence[int], counts: Sequence[int],
) -> None:  # fmt: skip
    found = values.float() if values.is_floating_point() else values
    if name not in arrays:
        shape = (starts[-1], *found.shape[1:])
        dtype = found.new_empty(0).cpu().numpy().dtype
        arrays[name] = open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
    for row, part in zip(batch, torch.split(found.cpu(), list(counts)), strict=True):
        arrays[name][starts[row] : starts[row + 1]] = part.numpy()


def _top(teacher: PackedModel, hidden: Tensor, top_k: int, temperature: float) -> dict[str, Tensor]:
    parts = []
    for states in torch.split(hidden, teacher.positions_at_once):
        logprobs = (teacher.logits(states) / temperature).log_softmax(-1)
        top = logprobs.topk(min(top_k, logprobs.shape[-1] - 1))
        rest = logprobs.scatter(-1, top.indices, -torch.inf).logsumexp(-1)
        parts.append((top.indices.int(), top.values, rest))
    ids, kept, rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return {"ids": ids, "logprobs": kept, "rest": rest}
