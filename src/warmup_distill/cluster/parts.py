"""The open parts of some work: sent, heard of, late, lost, and sent again.

Nothing here knows Ray: how a part is sent and cancelled is a `Link`, so that every clock and count
can be tried without a cluster.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from warmup_distill.cluster.places import Meter
from warmup_distill.cluster.remote import Done, Heard, Refused
from warmup_distill.cluster.saying import Speaker
from warmup_distill.errors import LostError
from warmup_distill.store.stopping import asked, leave_if_asked

logger = logging.getLogger(__name__)

SLOW = 10
"""A part that takes this many times as long as the longest one that came back is stuck."""
WAIT = 1.0
"""Seconds to wait for news before clocks are looked at."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A part's worker or machine is gone, or its work raised an exception."""

    why: str


News = Heard | Done | Refused | Lost


class Link(Protocol):
    """The way to the workers."""

    def send(self, number: int) -> Any:
        """Have a part computed; returns what tells this attempt from others."""

    def news(self, attempts: Sequence[Any], timeout: float) -> list[tuple[Any, News]]:
        """What came of these attempts, waiting for it no longer than `timeout` seconds."""

    def cancel(self, attempt: Any) -> None:
        """Whatever comes of this attempt, nobody listens any more."""


@dataclass(kw_only=True)
class _Attempt:
    """One part in the hands of a worker."""

    number: int
    heard: float
    """When it was sent, or last gave a sign."""
    begun: float | None = None
    advanced: int = 0
    settled: int = 0


@dataclass(kw_only=True)
class OpenParts:
    """Sends parts to workers until all came back.

    Args:
        width: parts that are open at one time.
        silence: seconds without a sign of life after which a part is sent again; also the least
            time after which a part that does give signs is taken to be stuck.
        max_failures: attempts that may be lost before the work stops.
        speaker: says what workers said.
    """

    link: Link
    width: int
    silence: float
    max_failures: int
    speaker: Speaker
    clock: Callable[[], float] = time.monotonic
    failures: list[str] = field(default_factory=list)
    _longest: float = 0.0
    _open: dict[Any, _Attempt] = field(default_factory=dict)

    def all(self, count: int, meter: Meter) -> Iterator[tuple[int, Any]]:
        """The number and the result of each of `count` parts, as they come.

        Raises:
            LostError: more than `max_failures` attempts were lost; what each said is told.
            Stopped: a signal asked for it; the open parts were waited for.
        """
        waiting = deque(range(count))
        try:
            while waiting or self._open:
                while waiting and len(self._open) < self.width and asked() is None:
                    self._send(waiting.popleft())
                if not self._open:
                    leave_if_asked()
                for number, result in self._hear(waiting, meter):
                    if waiting and asked() is None:  # the worker need not wait for the disk
                        self._send(waiting.popleft())
                    yield number, result
        finally:
            for attempt in self._open:
                self.link.cancel(attempt)
            self._open.clear()

    def _send(self, number: int) -> None:
        self._open[self.link.send(number)] = _Attempt(number=number, heard=self.clock())

    def _hear(self, waiting: deque[int], meter: Meter) -> list[tuple[int, Any]]:
        """The results that have come.

        Whoever takes a result may be long about it, and signs wait meanwhile. So all that has come
        is heard and clocks are looked at before anything is given out.
        """
        results = []
        for attempt, news in self.link.news(list(self._open), WAIT):
            part = self._open[attempt]
            now = part.heard = self.clock()
            if part.begun is None:
                part.begun = now
            match news:
                case Heard():
                    part.advanced += news.advanced
                    part.settled += news.settled
                    meter.advance(news.advanced)
                    meter.settle(news.settled)
                    self.speaker.say(news.said)
                case Refused():
                    raise news.error
                case Lost():
                    self._lose(attempt, news.why, waiting, meter)
                case Done():
                    del self._open[attempt]
                    self._longest = max(self._longest, now - part.begun)
                    results.append((part.number, news.result))
        self._give_up_late(waiting, meter)
        return results

    def _give_up_late(self, waiting: deque[int], meter: Meter) -> None:
        """Cancel the attempts that nothing more is expected of; their parts are sent again."""
        for attempt, part in list(self._open.items()):
            why = self._late(part)
            if why is None:
                continue
            self.link.cancel(attempt)
            if part.begun is None:  # no worker was free, or the one that took it hangs
                logger.warning("part %d waits for a worker: %s", part.number, why)
                del self._open[attempt]
                waiting.appendleft(part.number)
            else:
                self._lose(attempt, why, waiting, meter)

    def _late(self, part: _Attempt) -> str | None:
        """Why nothing more is expected of an attempt; None if something is."""
        now = self.clock()
        most = max(self.silence, SLOW * self._longest) if self._longest else float("inf")
        if now - part.heard > self.silence:
            return f"no sign of life for {self.silence:.0f} s"
        if part.begun is not None and now - part.begun > most:
            return f"not back after {most:.0f} s; the longest before took {self._longest:.0f} s"
        return None

    def _lose(self, attempt: Any, why: str, waiting: deque[int], meter: Meter) -> None:
        part = self._open.pop(attempt)
        meter.advance(-part.advanced)
        meter.settle(-part.settled)
        self.failures.append(f"part {part.number}: {why}")
        if len(self.failures) > self.max_failures:
            lines = "\n".join(f"  - {line}" for line in self.failures)
            raise LostError(
                f"{len(self.failures)} parts were lost on workers, more than cluster.max_failures "
                f"({self.max_failures}):\n{lines}\nEvery part that came back is kept; the same "
                "command goes on from there."
            )
        logger.warning("%s; it is sent again", self.failures[-1])
        waiting.appendleft(part.number)
