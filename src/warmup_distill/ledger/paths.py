"""What a model of a run cost: its own stage, and every stage whose work that goes on from."""

from collections.abc import Mapping, Sequence
from typing import Any

Entries = Mapping[str, Mapping[str, Any]]
"""What a manifest says of each stage: of those that run models the `cost`, and what it `uses`."""


def compute(entries: Entries, model: str) -> int | None:
    """Floating-point operations of everything that went into a model; evaluating it did not.

    Args:
        model: `student`, which cost nothing unless it was cut, or the stage that trained it.

    Returns:
        None where a stage does not say what it cost: it is not done, or an earlier version did it.
    """
    if model != "student":
        return went_into(entries, [model])
    was_cut = entries.get("cut", {}).get("state") == "complete"
    return went_into(entries, ["cut"] if was_cut else [])


def went_into(entries: Entries, stages: Sequence[str]) -> int | None:
    """Operations of some stages and of all that they use, each once; None as of `compute`."""
    found = list(stages)
    for one in found:  # which grows meanwhile
        found += [other for other in entries.get(one, {}).get("uses", ()) if other not in found]
    spent = [_spent(entries.get(one, {})) for one in found]
    known = [one for one in spent if one is not None]
    return sum(known) if len(known) == len(spent) else None


def _spent(entry: Mapping[str, Any]) -> int | None:
    """Operations of a stage by itself."""
    if entry.get("state") != "complete" or "cost" not in entry:
        return None
    return sum(int(one["operations"]) for one in entry["cost"])
