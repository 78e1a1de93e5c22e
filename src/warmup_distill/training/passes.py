"""The passes of one batch: a packed row each, and as many as processes must make together."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from warmup_distill.training.ranks import largest

Row = dict[str, Tensor]


def passes_of(trainer: Any, batch: Any, dataset: Any) -> list[tuple[Row, bool]]:
    """The packed rows of a batch, at least one, and whether they count.

    A process without a row, or with fewer than another where the weights are shared out, runs one
    again that does not count: all of them exchange gradients, and gather weights in each pass.

    Args:
        trainer: whose collator made the batch; it is empty if the other processes have all rows.
        dataset: that the batch is of.
    """
    rows = list(trainer.rows_of(batch)) if batch else []
    most = largest(len(rows)) if shares_weights(trainer) else len(rows)
    again = max(1, most) - len(rows)
    others = rows or trainer.rows_of(trainer.data_collator([dataset[0]]))
    smallest = min(others, key=lambda row: len(row["input_ids"]))
    return [(row, True) for row in rows] + [(smallest, False)] * again


@contextmanager
def exchanging(trainer: Any, model: Any, last: bool) -> Iterator[None]:
    """A pass after which gradients are exchanged if it is the last of its batch.

    Shards of gradients are exchanged after each, or every process would hold all of them.
    """
    if trainer.is_deepspeed_enabled:  # takes its step wherever gradients are exchanged
        state = trainer.accelerator.gradient_state
        before = state.sync_gradients
        state._set_sync_gradients(before and last)
        yield
        state._set_sync_gradients(before)
    elif last or trainer.is_fsdp_enabled:
        yield
    else:
        with trainer.accelerator.no_sync(model):
            yield


def shares_weights(trainer: Any) -> bool:
    """Whether processes hold parts of one model or optimizer, and so must run in step."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
