"""How long parts and optimizer steps take on some workers: a simulation, event by event."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SLOWER = 3.0
"""How many times as long a part takes on a worker that straggles."""

Luck = Callable[[int, int], tuple[float, float | None]]
"""Of a part's number and which attempt at it this is, from 0: how many times as long it takes, and
after what share of that it is lost; None if it comes back."""


def undisturbed(part: int, attempt: int) -> tuple[float, float | None]:
    """Every part takes as long as it should and comes back."""
    return 1.0, None


def disturbed(*, stragglers: float, failures: float, seed: int) -> Luck:
    """Some attempts straggle, and some are lost, at a random moment.

    What happens to a part hangs on its number alone, not on the workers: with other numbers of
    workers it is the same parts that are slow.

    Args:
        stragglers: share of the attempts that take `SLOWER` times as long.
        failures: share of the attempts that are lost; below 1.
    """

    def luck(part: int, attempt: int) -> tuple[float, float | None]:
        numbers = random.Random(f"{seed} {part} {attempt}")
        slow, lost, when = (numbers.random() for _ in range(3))
        return SLOWER if slow < stragglers else 1.0, when if lost < failures else None

    return luck


@dataclass(frozen=True, kw_only=True)
class Dispatched:
    """What became of some parts."""

    wall: float
    """Seconds from the start of the workers until the last part came back."""
    lost: int
    """Attempts."""


def dispatch(
    seconds: Sequence[float], workers: int, *, startup: float = 0.0, restart: float = 0.0,
    luck: Luck = undisturbed,
) -> Dispatched:  # fmt: skip
    """Parts sent as `cluster/parts.py` sends them: in order, each to the first worker that is free.

    A part that is lost is noticed at once and is the next to be sent; its worker starts again.

    Args:
        seconds: of each part.
        startup: seconds until the workers take their first parts.
        restart: seconds until a worker that lost a part takes another one.
    """
    waiting, attempts = deque(range(len(seconds))), [0] * len(seconds)
    idle: list[int] = []
    events: list[tuple[float, int, int | None]] = []
    wall, lost = 0.0, 0

    def send(worker: int, now: float) -> None:
        nonlocal wall
        part = waiting.popleft()
        factor, share = luck(part, attempts[part])
        attempts[part] += 1
        whole = factor * seconds[part]
        if share is None:
            wall = max(wall, now + whole)
            heapq.heappush(events, (now + whole, worker, None))
        else:
            heapq.heappush(events, (now + whole * share, worker, part))

    for worker in range(workers):
        heapq.heappush(events, (startup, worker, None))
    while events:
        now, worker, gone = heapq.heappop(events)
        if gone is not None:
            lost += 1
            waiting.appendleft(gone)
            heapq.heappush(events, (now + restart, worker, None))
            if idle:
                send(idle.pop(), now)
        elif waiting:
            send(worker, now)
        else:
            idle.append(worker)
    return Dispatched(wall=wall, lost=lost)


def train(steps: int, seconds: float, processes: int, *, update: float, exchange: float) -> float:
    """Seconds of a training: compute / N + steps · (update + exchange).

    The batch of a step is shared out among N processes, each of which then updates all weights and
    takes part in one all-reduce of the gradients; nothing of one overlaps with another, and no
    process is slower than others. Where gradients are exchanged while they are computed, as
    `DistributedDataParallel` does, it is faster.

    Args:
        seconds: of all steps' compute, in one process.
        update: seconds of an optimizer's update.
        exchange: seconds of an all-reduce.
    """
    return seconds / processes + steps * (update + exchange)


def all_reduce(size: float, processes: int, rate: float) -> float:
    """Seconds of an all-reduce in a ring: 2 (N − 1) / N · bytes / rate.

    Each process sends, and receives, all but its own share twice. Latencies are left out.

    Args:
        size: bytes of the gradients.
        rate: bytes per second of the slowest link of the ring, in one direction.
    """
    return 2 * (processes - 1) / processes * size / rate
