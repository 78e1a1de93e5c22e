"""Ctrl-C and SIGTERM: finish what is open, save, and leave.

The first signal asks; work looks at `asked()` between parts and steps and raises `Stopped`. A
second Ctrl-C does not wait.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked: int | None = None


class Stopped(BaseException):  # not an Exception: nothing that catches faults may hold it up
    """Work stopped at a place where it can go on; `signal` says by what."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


def asked() -> int | None:
    """The signal that asked to stop, if one did."""
    return _asked


def ask(number: int) -> None:
    """Ask this process to stop, as a signal of this number would."""
    global _asked
    _asked = number


def leave_if_asked() -> None:
    """Raise `Stopped` if a signal came; called where everything before is saved."""
    if _asked is not None:
        raise Stopped(_asked)


@contextmanager
def listening() -> Iterator[None]:
    """Take SIGINT and SIGTERM as requests inside the block."""
    global _asked
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        global _asked
        if _asked is not None and number == signal.SIGINT:
            raise Stopped(number)
        _asked = number
        name = signal.Signals(number).name
        os.write(2, f"\n{name}: finishing the open part; Ctrl-C leaves at once\n".encode())

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        _asked = None
        for number, handler in before.items():
            signal.signal(number, handler)
