"""What runs on a worker: one part, with a sign of life every other second.

A worker is an ordinary process that Ray keeps between parts, and with it the models it has loaded.
"""

import importlib
import os
import queue
import socket
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from warmup_distill.cluster.places import Task
from warmup_distill.cluster.saying import Said, ear
from warmup_distill.errors import NumbersError, ShortOfMemoryError, WarmupDistillError
from warmup_distill.models.holding import Held
from warmup_distill.models.memory import attempted

EVERY = 2.0
"""Seconds between two signs of life."""

_held = Held()


@dataclass(frozen=True, kw_only=True)
class Heard:
    """How far a part came since the last sign, and what was said."""

    advanced: int = 0
    settled: int = 0
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Done:
    """A part's result."""

    result: Any


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The work cannot be done anywhere: an error that is not the machine's."""

    error: Exception


class _Signs:
    """A meter whose counts are taken by another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._advanced = self._settled = 0

    def advance(self, tokens: int) -> None:
        with self._lock:
            self._advanced += tokens

    def settle(self, tokens: int) -> None:
        with self._lock:
            self._settled += tokens

    def take(self) -> Heard:
        """What came since the last call."""
        with self._lock:
            advanced, settled = self._advanced, self._settled
            self._advanced = self._settled = 0
        return Heard(advanced=advanced, settled=settled, said=ear().take())


def stand_in(folder: str) -> None:
    """Work in the driver's folder where it is, so that relative names mean the same; be heard."""
    ear()
    if Path(folder).is_dir():
        os.chdir(folder)


def wake() -> None:
    """Import what every part needs, which takes seconds, while the driver has no part yet."""
    importlib.import_module("warmup_distill.engines.transformers")


def compute_part(task: Task[Any, Any], item: Any, folder: str) -> Iterator[Heard | Done | Refused]:
    """Compute one part and tell how far it is; the last thing told is its result.

    Args:
        folder: the driver's working directory.

    Any other exception than ours loses the part; where it was raised stands in Ray's log.
    """
    stand_in(folder)
    signs, ended = _Signs(), queue.SimpleQueue[Done | Refused | BaseException]()

    def work() -> None:
        try:
            ended.put(Done(result=attempted(partial(task, item, _held, signs))))
        except (WarmupDistillError, NumbersError, ShortOfMemoryError) as error:
            ended.put(Refused(error=error))
        except BaseException as error:  # raised again in the thread that Ray looks at
            ended.put(error)

    threading.Thread(target=work, daemon=True).start()
    yield Heard()
    while True:
        try:
            last = ended.get(timeout=EVERY)
        except queue.Empty:
            yield signs.take()
            continue
        yield signs.take()
        if isinstance(last, BaseException):
            traceback.print_exception(last)
            raise RuntimeError(f"on {socket.gethostname()}: {last!r}") from last
        yield last
        return
