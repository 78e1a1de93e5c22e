"""Writing the teacher's signal: batches of rows, wherever they are computed, into parts on disk.

Shape letters: N completion token of some rows, K kept token, E width of the hidden states, V
vocabulary.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from warmup_distill.cluster.places import Meter, Place
from warmup_distill.engines.paths import packed_model
from warmup_distill.engines.progress import Progress
from warmup_distill.errors import RunError
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.checking import faults, recorded
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.removing import remove_files
from warmup_distill.store.writing import whole_folder
from warmup_distill.training.signals import ABOUT, ROWS_PER_PART, TeacherSignals
from warmup_distill.tree.pack import batches_by_size
from warmup_distill.tree.packed import PackedModel

Kind = Literal["hidden", "top_k"]
Row = dict[str, Any]
Array = NDArray[Any]
TOKENS_AT_ONCE = 4096
ARRAYS = ("hidden.npy", "ids.npy", "logits.npy", "logprobs.npy", "rest.npy")


@dataclass(frozen=True, kw_only=True)
class Signalling:
    """A task: the signal of the teacher on one batch of rows.

    Its result is by name [N, …], on the CPU, in float32 or int32, one row after the other: hidden
    states [N, E] (logits [N, V] of a model of which body and head cannot be told apart), or the
    `top_k` likeliest tokens [N, K], their log-probabilities [N, K] and that of all others together
    [N].
    """

    teacher: ModelRef
    vocabulary: Vocabulary
    kind: Kind
    top_k: int
    temperature: float
    """Divides the logits before the top-k are taken."""

    def notes(self, rows: Sequence[Row]) -> str:
        """What a part of these rows is known by."""
        top = {"top_k": self.top_k, "temperature": self.temperature}
        name = [self.teacher.identity, self.teacher.dtype]
        return digest([name, self.kind, top if self.kind == "top_k" else {}, rows])

    @torch.inference_mode()
    def __call__(self, item: Sequence[Row], held: Held, meter: Meter) -> dict[str, Array]:
        (model,) = held.take(self.teacher)
        teacher = packed_model(model, self.vocabulary)
        columns = ([row[name] for row in item] for name in ("prompt_ids", "completion_ids"))
        with teacher.following():
            hidden, _ = teacher.completion_hidden(*columns)
            states = "hidden" if teacher.head.layer is not None else "logits"
            found = {states: hidden} if self.kind == "hidden" else self._top(teacher, hidden)
        meter.settle(len(item))
        meter.advance(len(item))
        return {
            name: (values.float() if values.is_floating_point() else values).cpu().numpy()
            for name, values in found.items()
        }

    def _top(self, teacher: PackedModel, hidden: Tensor) -> dict[str, Tensor]:
        parts = []
        for states in torch.split(hidden, teacher.positions_at_once):
            logprobs = (teacher.logits(states) / self.temperature).log_softmax(-1)
            top = logprobs.topk(min(self.top_k, logprobs.shape[-1] - 1))
            rest = logprobs.scatter(-1, top.indices, -torch.inf).logsumexp(-1)
            parts.append((top.indices.int(), top.values, rest))
        ids, kept, rest = (torch.cat(column) for column in zip(*parts, strict=True))
        return {"ids": ids, "logprobs": kept, "rest": rest}


def write_signals(
    place: Place, task: Signalling, rows: Sequence[Row], folder: Path
) -> TeacherSignals:
    """Run the teacher over rows once and keep what a divergence needs; parts that are there stay.

    Args:
        rows: `prompt_ids` and `completion_ids` each.
        folder: its parts appear whole or not at all.

    Raises:
        Stopped: a signal asked for it; the parts written are kept.
    """
    starts = range(0, len(rows), ROWS_PER_PART)
    paths = [folder / f"part-{number:05d}" for number in range(len(starts))]
    for stray in sorted(set(folder.glob("part-*")) - set(paths)):
        _remove(stray)
    open_parts = []
    for path, start in zip(paths, starts, strict=True):
        some = rows[start : start + ROWS_PER_PART]
        known = task.notes(some)
        if not _is_whole(path, known):
            _remove(path)
            open_parts.append(_OpenPart(path, some, known))
    batches = [(part, batch) for part in open_parts for batch in part.batches()]
    items = [[part.rows[i] for i in batch] for part, batch in batches]
    with ExitStack() as unfinished, Progress("teacher", len(rows), unit=" rows") as progress:
        there = len(rows) - sum(map(len, items))
        progress.advance(there)
        progress.settle(there)
        for part in open_parts:
            unfinished.push(part.leave)
        for number, signal in place.compute(task, items, progress):
            part, batch = batches[number]
            part.put(batch, signal)
    return TeacherSignals(paths)


def _is_whole(folder: Path, known: str) -> bool:
    """Whether a part is there, of these rows and of this teacher, and as it was written."""
    try:
        about = read_json(folder / ABOUT)
        return bool(about["of"] == known and not faults(folder, about["files"]))
    except (RunError, KeyError, TypeError, AttributeError):
        return False


class _OpenPart:
    """A part that is being filled; it appears when all its rows are there.

    Args:
        known: what the part is known by.
    """

    def __init__(self, path: Path, rows: Sequence[Row], known: str) -> None:
        self.path, self.rows, self.known = path, rows, known
        self.missing = len(rows)
        self.starts = [0, *np.cumsum([len(row["completion_ids"]) for row in rows]).tolist()]
        self._open = ExitStack()
        self._arrays: dict[str, _Rows] = {}
        self._folder: Path | None = None

    def batches(self) -> list[list[int]]:
        """Which rows, by number, the teacher reads together."""
        sizes = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in self.rows]
        return batches_by_size(sizes, TOKENS_AT_ONCE)

    def put(self, batch: Sequence[int], signal: Mapping[str, Array]) -> None:
        """Write the signal of some rows; with the last ones the part is whole."""
        if self._folder is None:
            self._folder = self._open.enter_context(whole_folder(self.path))
        for name, values in signal.items():
            if name not in self._arrays:
                rows = _Rows(self._folder / f"{name}.npy", values, self.starts[-1])
                self._arrays[name] = rows
                self._open.enter_context(rows.file)
            ends = np.cumsum([len(self.rows[i]["completion_ids"]) for i in batch])
            for row, part in zip(batch, np.split(values, ends[:-1]), strict=True):
                self._arrays[name].put(self.starts[row], part)
        self.missing -= len(batch)
        if not self.missing:
            self._finish(self._folder)

    def _finish(self, folder: Path) -> None:
        for array in self._arrays.values():
            array.file.close()
        names = sorted(path.name for path in folder.glob("*.npy"))
        about = {"of": self.known, "starts": self.starts, "files": recorded(folder, names)}
        write_json(folder / ABOUT, about)
        self._open.close()

    def leave(self, *error: Any) -> bool | None:
        """As `__exit__`: nothing stays of a part that is not whole."""
        return self._open.__exit__(*error)


def _remove(part: Path) -> None:
    remove_files([part / name for name in (ABOUT, *ARRAYS)], above=part.parent)


class _Rows:
    """An array [N, …] on disk whose rows are written at their places, in any order.

    By calls that a full disk can refuse, and not through a memory map: a store to a page for which
    there is no room ends the process by a signal, without a word.
    """

    def __init__(self, path: Path, like: Array, count: int) -> None:
        self.file = path.open("wb")
        shape, dtype = (count, *like.shape[1:]), like.dtype
        kind = np.lib.format.dtype_to_descr(dtype)
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)
        self.start = self.file.tell()
        self.width = math.prod(shape[1:]) * dtype.itemsize

    def put(self, row: int, values: Array) -> None:
        self.file.seek(self.start + row * self.width)
        self.file.write(values.tobytes())
