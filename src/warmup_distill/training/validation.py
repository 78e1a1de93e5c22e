"""The loss of a trainer on held-out rows: a sum over all of them, divided once."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers.trainer_utils import EvalLoopOutput

from warmup_distill.training.passes import passes_of
from warmup_distill.training.ranks import gathered


@torch.no_grad()
def validate_rows(trainer: Any, dataloader: Any, prefix: str) -> EvalLoopOutput:
    """The mean loss, and the mean of all that the loss notes besides.

    However the rows are batched, and over however many processes.
    """
    trainer.callback_handler.eval_dataloader = dataloader
    total, count, rows = 0.0, 0, 0
    with trainer.noting_apart() as noted:
        for batch in dataloader:
            for row, counts in passes_of(trainer, batch, dataloader.dataset):
                loss, size, some = _one_pass(trainer, row, counts)
                total, count, rows = total + loss * size, count + size, rows + some
            trainer.control = trainer.callback_handler.on_prediction_step(
                trainer.args, trainer.state, trainer.control
            )
    sums = torch.tensor([total, count, rows], dtype=torch.float64, device=trainer.args.device)
    total, count, rows = trainer.accelerator.reduce(sums, "sum").tolist()
    means = {"loss": total / count} | means_of(gathered(dict(noted)))
    return EvalLoopOutput(
        predictions=None,  # type: ignore[arg-type]
        label_ids=None,
        metrics={f"{prefix}_{name}": value for name, value in means.items()},
        num_samples=int(rows),
    )


def _one_pass(trainer: Any, row: Any, counts: bool) -> tuple[float, int, int]:
    """The mean loss of a packed row, over how much it is taken, and how many rows of data it is."""
    inputs = trainer._prepare_inputs(row)
    # Unwrapped: DDP has its processes meet in every pass, and they have unlike numbers of them.
    model = trainer.model.eval()
    with nullcontext() if counts else trainer.uncounted():
        loss = float(trainer.mean_loss(model, inputs))
    if not counts:
        return 0.0, 0, 0
    return (
        loss,
        int(trainer.count(inputs)),
        len(inputs["owners" if "owners" in inputs else "lengths"]),
    )


def means_of(noted: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """By name the mean of all values that processes have noted."""
    names = dict.fromkeys(name for some in noted for name in some)
    values = {name: [one for some in noted for one in some.get(name, ())] for name in names}
    return {name: sum(all_) / len(all_) for name, all_ in values.items()}
