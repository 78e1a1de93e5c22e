"""How decode steps are run: each as it is, or in shapes that last, recorded and replayed.

A recorded step does what it did, on the memory on which it did it. So its shapes are kept for long
(`Captured`): a branch is looked at up to the next power of two of its tokens, and rows that ended
stay at work until they are half of all. What such a row draws is dropped, and it writes where none
of its tokens stand. In each shape the first step runs as it is, the second is recorded, and all
others are replays. That changes nothing of a record but how its sums were rounded.
"""

from collections.abc import Sequence
from typing import Protocol

from transformers import PreTrainedModel

from warmup_distill.engines.capture import Recorder, Replay, Step, recorder_of, refuse
from warmup_distill.engines.rows import Row

NARROW = 64
"""Tokens of a branch that are looked at, at least."""
FEW = 16
"""Rows that are not worth a shape of their own: a step of one takes as long."""


class Pace(Protocol):
    """How steps are run, and for how long they keep their shapes."""

    looks_every: int
    """Steps from one look at the rows, which waits for the device, to the next; at the most."""

    def steps(self, rows: Sequence[Row]) -> int:
        """Steps until the next look at rows that go on."""

    def width(self, tokens: int) -> int:
        """Tokens of a branch that are looked at where none has more than these."""

    def leave(self, going: int, at_work: int) -> bool:
        """Whether rows that ended leave now; `going` of those at work go on."""

    def renew(self) -> None:
        """The steps to come have other shapes."""

    def run(self, step: Step, times: int) -> None:
        """Run a step so many times."""


class Plain:
    """Every step as it is, in shapes that fit: the only pace on a CPU."""

    looks_every = 4

    def steps(self, rows: Sequence[Row]) -> int:
        """See `Pace.steps`. Where no n-gram may come twice, each token is looked at."""
        if any(row.no_repeat for row in rows):
            return 1
        return min(self.looks_every, *(row.room for row in rows))

    def width(self, tokens: int) -> int:
        """See `Pace.width`."""
        return tokens

    def leave(self, going: int, at_work: int) -> bool:
        """See `Pace.leave`."""
        return going < at_work

    def renew(self) -> None:
        """See `Pace.renew`."""

    def run(self, step: Step, times: int) -> None:
        """See `Pace.run`."""
        for _ in range(times):
            step()


class Captured:
    """Steps in shapes that last, recorded and replayed."""

    # The device waits at a look for about as long as Python takes for a step that is not recorded.
    looks_every = 16

    def __init__(self, model: PreTrainedModel, recorder: Recorder) -> None:
        self._model = model
        self._recorder: Recorder | None = recorder
        self.renew()

    def steps(self, rows: Sequence[Row]) -> int:
        """See `Pace.steps`. What a row draws beyond its room is dropped."""
        return min(self.looks_every, max(row.room for row in rows))

    def width(self, tokens: int) -> int:
        """See `Pace.width`: a power of two."""
        return max(NARROW, 1 << (tokens - 1).bit_length())

    def leave(self, going: int, at_work: int) -> bool:
        """See `Pace.leave`."""
        return at_work > FEW and 2 * going <= at_work

    def renew(self) -> None:
        """See `Pace.renew`."""
        self._warm = False
        self._replay: Replay | None = None

    def run(self, step: Step, times: int) -> None:
        """See `Pace.run`."""
        for _ in range(times):
            if self._replay is not None:
                self._replay()
            elif self._recorder is None:
                step()
            elif self._warm:
                self._record(self._recorder, step)
            else:
                self._recorder.warm(step)
                self._warm = True

    def _record(self, recorder: Recorder, step: Step) -> None:
        """Record a step, or run it and all that follow as they are."""
        try:
            self._replay = recorder.record(step)
        except Exception as error:  # whatever CUDA, or a family's code, raises is the answer
            self._recorder = None
            refuse(self._model, error)
            step()


def pace_of(model: PreTrainedModel, rows: Sequence[Row]) -> Pace:
    """How the steps of some rows are run."""
    recorder = recorder_of(model)
    if recorder is None or any(row.no_repeat for row in rows):
        return Plain()
    return Captured(model, recorder)
