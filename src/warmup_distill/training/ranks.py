"""What the processes of one training say to one another; of one process everything is true.

A training has several processes where a launcher (Ray Train, torchrun) has set `WORLD_SIZE`.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return not _together() or dist.get_rank() == 0


def any_of(flag: bool) -> bool:
    """Whether it is true in one process at least, so that all do the same."""
    return bool(largest(int(flag)))


def largest(number: int) -> int:
    """The largest of the numbers that the processes give, in all of them."""
    if not _together():
        return number
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    found = torch.tensor(number, device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return int(found)


def gathered(value: T) -> list[T]:
    """What each of the processes gives, in all of them."""
    if not _together():
        return [value]
    values: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def of_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them."""
    if not _together():
        return make()
    held = [make() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(held)
    found: T = held[0]  # type: ignore[assignment]
    return found


def wait_for_all() -> None:
    """Go on when every process is here."""
    if _together():
        dist.barrier()


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
