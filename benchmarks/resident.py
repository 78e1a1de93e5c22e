"""The memory of a program that starts others: what is resident, by what the processes are for."""

from contextlib import suppress
from dataclasses import dataclass

import psutil

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Resident:
    """MiB at one time, or the most of each; what processes share is counted in each of them."""

    driver: float = 0.0
    workers: float = 0.0
    """Of all processes that compute, or could."""
    ray: float = 0.0
    """Of Ray's own processes."""
    all: float = 0.0

    @classmethod
    def below(cls, root: int) -> "Resident":
        """Of a process and all that descend from it."""
        found = {"driver": 0.0, "workers": 0.0, "ray": 0.0}
        with suppress(psutil.NoSuchProcess):  # it has just ended
            driver = psutil.Process(root)
            for process in (driver, *driver.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    found[_kind(process, root)] += process.memory_info().rss / MIB
        return cls(**found, all=sum(found.values()))

    def most(self, other: "Resident") -> "Resident":
        """The more of both, of each kind by itself."""
        names = ("driver", "workers", "ray", "all")
        return Resident(**{name: max(getattr(self, name), getattr(other, name)) for name in names})

    def __str__(self) -> str:
        return (
            f"{self.all:.0f} MiB (driver {self.driver:.0f}, workers {self.workers:.0f}, Ray "
            f"{self.ray:.0f})"
        )


def _kind(process: psutil.Process, root: int) -> str:
    if process.pid == root:
        return "driver"
    title = " ".join(process.cmdline())
    is_worker = title.startswith(("ray::compute_part", "ray::IDLE"))
    return "workers" if is_worker else "ray"
