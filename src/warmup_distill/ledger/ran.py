"""What a training has run: counted pass by pass, and kept with its checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from warmup_distill.ledger.passes import NOTHING, Pass


@dataclass(kw_only=True)
class Ran:
    """Sums over all that a training, or one process of it, has run."""

    trained: Pass = NOTHING
    """Of the student, with gradients."""
    again: Pass = NOTHING
    """Of it, what backward passes computed a second time."""
    drawn: Pass = NOTHING
    """Of the student, to draw completions."""
    scored: Pass = NOTHING
    """Of the student, without gradients."""
    taught: Pass = NOTHING
    """Of the teacher."""

    def add(self, **passes: Pass) -> None:
        """Add to sums by their names."""
        for name, one in passes.items():
            setattr(self, name, getattr(self, name) + one)

    def state(self) -> dict[str, Any]:
        """For JSON, and for `restore`."""
        return asdict(self)

    def restore(self, state: Mapping[str, Mapping[str, int]]) -> None:
        """Take over what `state` gave."""
        for name, one in state.items():
            setattr(self, name, Pass(**one))

    @classmethod
    def total(cls, states: list[Mapping[str, Mapping[str, int]]]) -> "Ran":
        """The sum over processes, from what `state` gave in each."""
        found = cls()
        for state in states:
            found.add(**{name: Pass(**one) for name, one in state.items()})
        return found
