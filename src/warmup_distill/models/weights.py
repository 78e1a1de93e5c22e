"""Whether the weights of a model are those that its configuration describes."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from warmup_distill.errors import ModelError

NUMBERS = frozenset({"F64", "F32", "F16", "BF16"})
"""Kinds of numbers in safetensors that mean themselves; all others stand for them by a scale."""
NAMED = 3
"""Tensors that a message names; the rest are counted."""


def require_matching(name: str, report: Mapping[str, Any]) -> None:
    """Refuse what `transformers` would pass over: it fills missing tensors with random numbers.

    Args:
        name: of the model, for the message.
        report: what `from_pretrained(…, output_loading_info=True)` says; it leaves out what a
            family is known to do without.

    Raises:
        ModelError: tensors are missing, left over, or of another shape; they are named.
    """
    shapes = [
        f"{key} is {[*there]} in the file and {[*here]} in the model"
        for key, there, here in report["mismatched_keys"]
    ]
    faults = {
        "missing": sorted(report["missing_keys"]),
        "left over": sorted(report["unexpected_keys"]),
        "of another shape": sorted(shapes),
        "not readable": sorted(map(str, report.get("error_msgs", ()))),
    }
    found = [f"{_named(tensors)} {fault}" for fault, tensors in faults.items() if tensors]
    if found:
        raise ModelError(
            f"the weights of {name} are not those of its config.json: {'; '.join(found)}. Save the "
            "model again with `save_pretrained` (without what wraps it, such as torch.compile or "
            "DDP), or put the config.json beside it that belongs to it."
        )


def require_floats(name: str, folder: Path) -> None:
    """Refuse whole numbers, booleans and 8-bit floats: without a quantiser they mean nothing.

    Raises:
        ModelError: a tensor is stored so; it is named.
    """
    found = [
        f"{tensor} ({kind})"
        for tensor, kind, _ in _stored(folder)
        if kind not in NUMBERS and tensor.endswith((".weight", ".bias"))
    ]
    if found:
        raise ModelError(
            f"{name}: expected weights in float32, float16 or bfloat16, but {_named(found)} not, "
            "and its config.json names no quantization_config that says what they stand for. Save "
            "the model in one of these."
        )


def stored_dtype(folder: Path) -> torch.dtype:
    """What most numbers of a model's folder are stored in; the tensors stay where they are."""
    counts: Counter[str] = Counter()
    for _, kind, numbers in _stored(folder):
        counts[kind] += numbers
    kinds = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    most = next((name for name, _ in counts.most_common() if name in kinds), "F32")
    return kinds[most]


def _stored(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Name, kind and count of numbers of every tensor of a folder, by the headers of its files."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, the file is no mapping
                tensor = file.get_slice(name)
                yield name, tensor.get_dtype(), math.prod(tensor.get_shape())


def _named(tensors: Iterable[str]) -> str:
    """`a, b, c and 5 more`, with the verb for one or many."""
    every = list(tensors)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return f"{', '.join(every[:NAMED])}{more} {'is' if len(every) == 1 else 'are'}"
