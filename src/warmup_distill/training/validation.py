"""The loss of a trainer on held-out rows: a sum over all of them, divided once."""

from typing import Any

import torch
from transformers.trainer_utils import EvalLoopOutput


@torch.no_grad()
def validate_rows(trainer: Any, dataloader: Any, prefix: str) -> EvalLoopOutput:
    """The mean loss, and the mean of all that the loss notes besides.

    However the rows are batched, and over however many processes.
    """
    model = trainer.model_wrapped.eval()
    trainer.callback_handler.eval_dataloader = dataloader
    total, count, rows = 0.0, 0, 0
    with trainer.noting_apart() as noted:
        for batch in dataloader:
            for inputs in batch if isinstance(batch, list) else [batch]:
                inputs = trainer._prepare_inputs(inputs)
                size = int(trainer.count(inputs))
                total += float(trainer.mean_loss(model, inputs)) * size
                count += size
                rows += len(inputs["owners" if "owners" in inputs else "lengths"])
            trainer.control = trainer.callback_handler.on_prediction_step(
                trainer.args, trainer.state, trainer.control
            )
    sums = torch.tensor([total, count, rows], dtype=torch.float64, device=trainer.args.device)
    total, count, rows = trainer.accelerator.reduce(sums, "sum").tolist()
    means = {"loss": total / count} | {name: sum(some) / len(some) for name, some in noted.items()}
    return EvalLoopOutput(
        predictions=None,  # type: ignore[arg-type]
        label_ids=None,
        metrics={f"{prefix}_{name}": value for name, value in means.items()},
        num_samples=int(rows),
    )
