"""What libraries and we say on a worker, shown by the driver as if it had said it itself."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from queue import Empty, SimpleQueue

from warmup_distill.foreign.libraries import SHOWN_BY_THEMSELVES


@dataclass(frozen=True, kw_only=True)
class Said:
    """One message of a logger."""

    logger: str
    level: int
    text: str


class _Ear(logging.Handler):
    """Keeps what is said until somebody takes it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: SimpleQueue[Said] = SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self._said.put(Said(logger=record.name, level=record.levelno, text=text))

    def take(self) -> tuple[Said, ...]:
        """What was said since the last call."""
        found = []
        while True:
            try:
                found.append(self._said.get_nowait())
            except Empty:
                return tuple(found)


@cache
def ear() -> _Ear:
    """Hears everything in this process that one process alone would show, warnings too."""
    heard = _Ear()
    for name in (None, *SHOWN_BY_THEMSELVES):
        logging.getLogger(name).addHandler(heard)
    logging.getLogger("warmup_distill").setLevel(logging.INFO)
    logging.captureWarnings(True)
    return heard


class Speaker:
    """Says in the driver what workers said; what several of them said alike, once."""

    def __init__(self) -> None:
        self._said: set[Said] = set()

    def say(self, messages: Iterable[Said]) -> None:
        """Pass messages on to the loggers of their names."""
        for one in messages:
            if one not in self._said:
                self._said.add(one)
                logging.getLogger(one.logger).log(one.level, "%s", one.text)
