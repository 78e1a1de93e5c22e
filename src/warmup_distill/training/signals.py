"""The teacher's signal on disk, for more than one pass over the same rows.

Hidden states with the teacher's head give back its logits exactly, and are smaller by the ratio of
vocabulary to width (42 times for Qwen2.5-7B). The top-k log-probabilities with one bucket for the
rest are smaller still, and serve forward KL alone. Rows are known by their numbers, never by the
step in which they came.

Shape letters: N completion token of all rows, K kept token, E width of the hidden states.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from warmup_distill.errors import RunError
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.checking import faults, recorded
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.removing import remove_files
from warmup_distill.store.stopping import leave_if_asked
from warmup_distill.store.writing import whole_folder
from warmup_distill.tree.pack import batches_by_size
from warmup_distill.tree.packed import PackedModel

Kind = Literal["hidden", "top_k"]
TOKENS_AT_ONCE = 4096
ABOUT = "about.json"
ARRAYS = ("hidden.npy", "ids.npy", "logprobs.npy", "rest.npy")
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
        about = read_json(folder / ABOUT)
        self.starts: list[int] = about["starts"]
        self.paths = [folder / name for name in about["files"]]

    def of(self, row: int) -> dict[str, Any]:
        span = slice(self.starts[row], self.starts[row + 1])
        return {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)[span] for path in self.paths
        }


def _is_whole(folder: Path, known: str) -> bool:
    """Whether a part is there, of these rows and of this teacher, and as it was written."""
    try:
        about = read_json(folder / ABOUT)
        return bool(about["of"] == known and not faults(folder, about["files"]))
    except (RunError, KeyError, TypeError, AttributeError):
        return False


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
    for stray in sorted(set(folder.glob("part-*")) - set(paths)):
        _remove(stray)
    with teacher.following(), tqdm(total=len(rows), desc="teacher", unit="row") as bar:
        for path, start in zip(paths, starts, strict=True):
            some = rows[start : start + ROWS_PER_PART]
            known = digest([name, kind, top, some])
            if _is_whole(path, known):
                bar.update(len(some))
                continue
            _remove(path)
            with whole_folder(path) as temporary:
                ends = _fill(teacher, some, temporary, kind, top_k, temperature, bar.update)
                names = sorted(path.name for path in temporary.glob("*.npy"))
                about = {"of": known, "starts": ends, "files": recorded(temporary, names)}
                write_json(temporary / ABOUT, about)
            leave_if_asked()
    return TeacherSignals(paths)


def _remove(part: Path) -> None:
    remove_files([part / name for name in (ABOUT, *ARRAYS)], above=part.parent)


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
    starts = [0, *np.cumsum([len(row["completion_ids"]) for row in rows]).tolist()]
    sizes = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows]
    with contextlib.ExitStack() as files:
        arrays: dict[str, _Rows] = {}
        for batch in batches_by_size(sizes, TOKENS_AT_ONCE):
            signal = _signal(teacher, [rows[i] for i in batch], kind, top_k, temperature)
            for name, values in signal.items():
                if name not in arrays:
                    arrays[name] = _Rows(folder / f"{name}.npy", values, starts[-1])
                    files.enter_context(arrays[name].file)
                counts = [len(rows[i]["completion_ids"]) for i in batch]
                for row, part in zip(batch, torch.split(values, counts), strict=True):
                    arrays[name].put(starts[row], part)
            advance(len(batch))
    return starts


def _signal(
    teacher: PackedModel, rows: Sequence[dict[str, Any]], kind: Kind, top_k: int, temperature: float
) -> dict[str, Tensor]:
    """What is kept of some rows, one after the other: by name, on the CPU, in float32 or int32."""
    columns = ([row[name] for row in rows] for name in ("prompt_ids", "completion_ids"))
    hidden, _ = teacher.completion_hidden(*columns)
    found = {"hidden": hidden} if kind == "hidden" else _top(teacher, hidden, top_k, temperature)
    return {
        name: (values.float() if values.is_floating_point() else values).cpu()
        for name, values in found.items()
    }


class _Rows:
    """An array [N, …] on disk whose rows are written at their places, in any order.

    By calls that a full disk can refuse, and not through a memory map: a store to a page for which
    there is no room ends the process by a signal, without a word.
    """

    def __init__(self, path: Path, like: Tensor, count: int) -> None:
        self.file = path.open("wb")
        shape, dtype = (count, *like.shape[1:]), like.numpy().dtype
        kind = np.lib.format.dtype_to_descr(dtype)
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)
        self.start = self.file.tell()
        self.width = math.prod(shape[1:]) * dtype.itemsize

    def put(self, row: int, values: Tensor) -> None:
        self.file.seek(self.start + row * self.width)
        self.file.write(values.numpy().tobytes())


def _top(teacher: PackedModel, hidden: Tensor, top_k: int, temperature: float) -> dict[str, Tensor]:
    parts = []
    for states in torch.split(hidden, teacher.positions_at_once):
        logprobs = (teacher.logits(states) / temperature).log_softmax(-1)
        top = logprobs.topk(min(top_k, logprobs.shape[-1] - 1))
        rest = logprobs.scatter(-1, top.indices, -torch.inf).logsumexp(-1)
        parts.append((top.indices.int(), top.values, rest))
    ids, kept, rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return {"ids": ids, "logprobs": kept, "rest": rest}
