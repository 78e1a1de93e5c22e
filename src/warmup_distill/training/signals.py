"""The teacher's signal on disk, for more than one pass over the same rows.

Hidden states with the teacher's head give back its logits exactly, and are smaller by the ratio of
vocabulary to width (42 times for Qwen2.5-7B). The top-k log-probabilities with one bucket for the
rest are smaller still, and serve forward KL alone. Rows are known by their numbers, never by the
step in which they came.

Shape letters: N completion token of all rows, K kept token, E width of the hidden states.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from tqdm import tqdm

from warmup_distill.artifacts import whole_folder, write_json
from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.pack import batches_by_size

Kind = Literal["hidden", "top_k"]
TOKENS_AT_ONCE = 4096


class TeacherSignals:
    """Arrays [N, …] on disk, and where each row begins.

    Args:
        folder: made by `write_signals`.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.starts: list[int] = about["starts"]
        self.arrays = {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
            for path in sorted(folder.glob("*.npy"))
        }

    def of(self, rows: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """The signal of some rows, one after the other, by name."""
        spans = [slice(self.starts[row], self.starts[row + 1]) for row in rows]
        return {
            name: torch.from_numpy(np.concatenate([array[span] for span in spans])).to(device)
            for name, array in self.arrays.items()
        }


def write_signals(
    teacher: TreeModel,
    rows: Sequence[dict[str, Any]],
    folder: Path,
    kind: Kind,
    *,
    top_k: int,
    temperature: float,
    teacher_name: str,
) -> TeacherSignals:
    """Run the teacher over rows once and keep what a divergence needs; reused if it is there.

    Args:
        rows: `prompt_ids` and `completion_ids` each.
        folder: appears whole or not at all.
        kind: hidden states [N, E], or the `top_k` likeliest tokens [N, K], their
            log-probabilities [N, K] and that of all others together [N].
        temperature: divides the logits before the top-k are taken.
    """
    top = {"top_k": top_k, "temperature": temperature} if kind == "top_k" else {}
    digest = hashlib.sha256(json.dumps([teacher_name, kind, top, list(rows)]).encode()).hexdigest()
    about = folder / "about.json"
    if about.exists() and json.loads(about.read_text(encoding="utf-8"))["digest"] == digest:
        return TeacherSignals(folder)
    starts = [0, *np.cumsum([len(row["completion_ids"]) for row in rows]).tolist()]
    with whole_folder(folder) as temporary:
        _fill(teacher, rows, starts, temporary, kind, top_k, temperature)
        write_json(
            temporary / "about.json", {"digest": digest, "kind": kind, **top, "starts": starts}
        )
    return TeacherSignals(folder)


@torch.inference_mode()
def _fill(
    teacher: TreeModel,
    rows: Sequence[dict[str, Any]],
    starts: Sequence[int],
    folder: Path,
    kind: Kind,
    top_k: int,
    temperature: float,
) -> None:
    arrays: dict[str, Any] = {}
    sizes = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows]
    with teacher.following(), tqdm(total=len(rows), desc="teacher", unit="row") as bar:
        for batch in batches_by_size(sizes, TOKENS_AT_ONCE):
            columns = ([rows[i][name] for i in batch] for name in ("prompt_ids", "completion_ids"))
            hidden, _ = teacher.completion_hidden(*columns)
            signal = (
                {"hidden": hidden}
                if kind == "hidden"
                else _top(teacher, hidden, top_k, temperature)
            )
            counts = [len(rows[i]["completion_ids"]) for i in batch]
            for name, values in signal.items():
                _place(arrays, folder, name, values, starts, batch, counts)
            bar.update(len(batch))
    for array in arrays.values():
        array.flush()


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


def _top(teacher: TreeModel, hidden: Tensor, top_k: int, temperature: float) -> dict[str, Tensor]:
    parts = []
    for states in torch.split(hidden, teacher.positions_at_once):
        logprobs = (teacher.logits(states) / temperature).log_softmax(-1)
        top = logprobs.topk(min(top_k, logprobs.shape[-1] - 1))
        rest = logprobs.scatter(-1, top.indices, -torch.inf).logsumexp(-1)
        parts.append((top.indices.int(), top.values, rest))
    ids, kept, rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return {"ids": ids, "logprobs": kept, "rest": rest}
