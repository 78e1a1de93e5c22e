"""Whether the weights of a model are those that its configuration describes."""

from collections.abc import Iterable, Mapping
from typing import Any

from warmup_distill.errors import ModelError

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


def _named(tensors: Iterable[str]) -> str:
    """`a, b, c and 5 more`, with the verb for one or many."""
    every = list(tensors)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return f"{', '.join(every[:NAMED])}{more} {'is' if len(every) == 1 else 'are'}"
