"""The memory that models and their work may fill in a process, and what to do when it is full."""

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from warmup_distill.errors import ShortOfMemoryError
from warmup_distill.foreign.reading import is_out_of_memory, reason
from warmup_distill.models.holding import Held

Result = TypeVar("Result")

LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.stat", "anon"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.stat", "rss"),
)
"""Where a container says how much memory it has, and how much of it cannot be taken back."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Of one process."""

    device: str
    """Its name, or `CPU`."""
    free: int
    """Bytes of one device that may be filled; what the models held now take is among them."""
    devices: int = 1
    """How many of them the process has."""

    @property
    def is_host(self) -> bool:
        return self.device == "CPU"


def memory_of(held: Held) -> Memory:
    """The memory of this process.

    On a CPU a process may fill as large a part of what is available as it has of the cores: then
    processes side by side, with a share of the cores each, fill no more than there is.
    """
    models: list[Any] = held.models
    there = sum(model.get_memory_footprint() for model in models)
    if not torch.cuda.is_available():
        share = min(1.0, torch.get_num_threads() / (os.cpu_count() or 1))
        return Memory(device="CPU", free=int(share * (available() + there)))
    devices = torch.cuda.device_count()
    return Memory(
        device=torch.cuda.get_device_name(),
        free=min(map(_free_on, range(devices))) + there // devices,
        devices=devices,
    )


def _free_on(device: int) -> int:
    """What nobody has, and what torch keeps for the next tensors."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def available() -> int:
    """Bytes of main memory that can be had without swapping, here or in this container."""
    found = psutil.virtual_memory().available
    for limit, statistics, name in LIMITS:
        try:
            most = int(Path(limit).read_text(encoding="ascii"))
            lines = Path(statistics).read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):  # another system, or no limit
            continue
        taken = dict(line.split(maxsplit=1) for line in lines).get(name, "0")
        found = min(found, most - int(taken))
    return max(0, int(found))


def attempted(work: Callable[[], Result]) -> Result:
    """What some work of models gives.

    Raises:
        ShortOfMemoryError: memory ran out. Nothing of the work is held any more, not by the error
            either: a traceback would keep every tensor of it.
    """
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        said = reason(error)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise ShortOfMemoryError(said)
