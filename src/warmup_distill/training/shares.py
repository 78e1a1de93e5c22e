"""The rows of an epoch shared out among processes, so that each step has those of one process.

Accelerate gives all processes equally many rows, and where they do not come out even at the end of
an epoch it gives some of them out twice.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import DataLoader, Sampler

KEPT = (
    "collate_fn", "num_workers", "pin_memory", "worker_init_fn", "persistent_workers",
    "prefetch_factor", "multiprocessing_context", "in_order",
)  # fmt: skip
"""What a data loader is besides its rows and their order."""


def shared_out(loader: Any, owners: Callable[[Any], Sequence[Hashable]], passes: int) -> Any:
    """The data loader of one process of several; one process has its own as it is.

    Args:
        loader: as Accelerate prepared it for this process.
        owners: of each row of a data set, what keeps it together with others, such as its prompt.
        passes: of a process in an optimizer step.
    """
    shard = loader.batch_sampler
    if not isinstance(shard, BatchSamplerShard) or shard.num_processes == 1 or shard.drop_last:
        return loader
    shares = Shares(
        order=shard.batch_sampler.sampler,
        owners=owners(loader.dataset),
        per_step=shard.batch_size * passes * (1 if shard.split_batches else shard.num_processes),
        passes=passes,
        process=(shard.process_index, shard.num_processes),
    )
    settings = {name: getattr(loader, name) for name in KEPT}
    settings["collate_fn"] = partial(_collated, settings["collate_fn"])
    return _Loader(loader.dataset, batch_sampler=shares, **settings)


class Shares(Sampler[list[int]]):
    """The numbers of the rows of each pass of one process; none where the others have them all.

    Args:
        order: of all rows in an epoch, the same in all processes.
        owners: by row; rows of one owner that follow one another go to one process and one pass.
        per_step: rows of an optimizer step, of all processes together.
        passes: of a process in an optimizer step.
        process: its number, and how many there are.
    """

    def __init__(
        self,
        *,
        order: Any,
        owners: Sequence[Hashable],
        per_step: int,
        passes: int,
        process: tuple[int, int],
    ) -> None:
        self.order = order
        self.owners = owners
        self.per_step = per_step
        self.passes = passes
        self.number, self.processes = process

    def set_epoch(self, epoch: int) -> None:
        """Every epoch has an order of its own."""
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.order) // self.per_step) * self.passes

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.order)
        for start in range(0, len(rows), self.per_step):
            step = rows[start : start + self.per_step]
            yield from self._parts(self._parts(step, self.processes)[self.number], self.passes)

    def _parts(self, rows: Sequence[int], count: int) -> list[list[int]]:
        """Rows in so many parts of about one size: an owner's go where the middle of them is."""
        parts: list[list[int]] = [[] for _ in range(count)]
        done = 0
        for _, some in groupby(rows, key=lambda row: self.owners[row]):
            together = list(some)
            parts[(2 * done + len(together)) * count // (2 * len(rows))] += together
            done += len(together)
        return parts


class _Loader(DataLoader[Any]):
    def set_epoch(self, epoch: int) -> None:
        """The trainer says which epoch begins."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def _collated(collate: Callable[[Any], Any], rows: Sequence[Any]) -> Any:
    return collate(rows) if rows else []
