"""A limit of time and memory around code that came with a model: its chat template.

Templates run in a sandbox that keeps them from Python, but not from nested loops or long strings.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

SECONDS = 10.0
MEMORY = 2**30
"""Bytes on top of what the process has."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Let the block take so much time and memory and no more.

    Where the system has no such limits, or outside the main thread, there are none.

    Raises:
        TimeoutError: it takes longer.
        MemoryError: it takes more.
    """
    with _time_limit(), _memory_limit():
        yield


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took longer than {SECONDS:.0f} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    statistics = Path("/proc/self/statm")  # Linux alone
    if not statistics.exists():
        yield
        return
    import resource

    pages = int(statistics.read_text(encoding="ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + MEMORY
    bounds = [wanted, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
