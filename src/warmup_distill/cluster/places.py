"""A place where parts are computed, and the one that is this process."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from warmup_distill.models.holding import Held
from warmup_distill.models.memory import attempted
from warmup_distill.store.stopping import leave_if_asked

Item = TypeVar("Item")
Result = TypeVar("Result")
Given = TypeVar("Given", contravariant=True)
Made = TypeVar("Made", covariant=True)


class Meter(Protocol):
    """Hears how far work on tokens is, as a progress bar does."""

    def advance(self, tokens: int) -> None:
        """Some tokens were drawn or checked."""

    def settle(self, tokens: int) -> None:
        """Work that takes so many tokens at the most is done, however many it took."""


class StepMeter(Protocol):
    """Hears how far a training is, as a progress bar does."""

    def reached(self, step: int, steps: int, loss: float | None) -> None:
        """So many optimizer steps of all are done; the loss is the last one that was logged."""


Body = Callable[[Held, StepMeter], dict[str, Any]]


class _Nobody:
    """A meter that nobody reads."""

    def advance(self, tokens: int) -> None:
        pass

    def settle(self, tokens: int) -> None:
        pass

    def reached(self, step: int, steps: int, loss: float | None) -> None:
        pass


NOBODY = _Nobody()


class Task(Protocol[Given, Made]):
    """What is done to each part: a frozen dataclass, for it may be sent to other processes."""

    def __call__(self, item: Given, held: Held, meter: Meter) -> Made:
        """The result of one part, the same wherever it is computed.

        Args:
            held: gives the models.
            meter: hears of every token.
        """


class Place(Protocol):
    """Computes parts that know nothing of one another."""

    held: Held
    """The models in this process."""

    def compute(
        self, task: Task[Item, Result], items: Sequence[Item], meter: Meter
    ) -> Iterator[tuple[int, Result]]:
        """The number and the result of each item, in the order in which they are done.

        Raises:
            Stopped: a signal asked for it; every result before was given out.
            ShortOfMemoryError: a part does not fit; every result before was given out.
        """

    def train(self, body: Body, scratch: Path, meter: StepMeter) -> dict[str, Any]:
        """Run the body of a training, in one process or in several that train together.

        Args:
            body: loads what it trains, trains it and saves it; returns counts. It may be sent to
                other processes.
            scratch: folder of the training's checkpoints.
            meter: hears of every step, or of some of them where other processes train.
        """

    def close(self) -> None:
        """Give back what the place holds."""


class Here:
    """This process: one part after the other."""

    def __init__(self) -> None:
        self.held = Held()

    def compute(
        self, task: Task[Item, Result], items: Sequence[Item], meter: Meter
    ) -> Iterator[tuple[int, Result]]:
        """See `Place.compute`."""
        for number, item in enumerate(items):
            yield number, attempted(partial(task, item, self.held, meter))
            leave_if_asked()

    def train(self, body: Body, scratch: Path, meter: StepMeter) -> dict[str, Any]:
        """See `Place.train`."""
        return body(self.held, meter)

    def close(self) -> None:
        """See `Place.close`."""
        self.held.take()
