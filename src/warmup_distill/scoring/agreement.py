"""How far a model is from the teacher on its own samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from warmup_distill.engines.mismatch import find_mismatch
from warmup_distill.losses import forward_kl, reverse_kl
from warmup_distill.tree.pack import Pack, batches_by_size, pack_completions
from warmup_distill.tree.packed import PackedModel, gather_logprobs


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Means over a model's samples; per-token values are means over all their tokens."""

    samples: int
    mismatch_share: float
    """Share of samples with a token whose margin exceeds the threshold."""
    mean_margin: float
    """log q − log p, nats per token."""
    forward_kl: float
    """KL(teacher ‖ model), nats per token."""
    reverse_kl: float
    """KL(model ‖ teacher), nats per token."""


@torch.inference_mode()
def measure_agreement(
    model: PackedModel,
    teacher: PackedModel,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    *,
    margin_threshold: float,
    batch_tokens: int,
) -> Agreement:
    """Compare two models on completions that the first one drew, over the whole vocabulary."""
    mismatching, totals, tokens = 0, torch.zeros(3, dtype=torch.float64), 0
    lengths = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
    for indices in batches_by_size(lengths, batch_tokens):
        batch = pack_completions(
            [prompts[i] for i in indices],
            [completions[i] for i in indices],
            to_the_end=model.by_length or teacher.by_length,
        )
        q, p, forward, reverse = _compare(model, teacher, batch)
        counts = [len(completions[i]) for i in indices]
        for q_row, p_row in zip(torch.split(q, counts), torch.split(p, counts), strict=True):
            index, _ = find_mismatch(q_row.tolist(), p_row.tolist(), margin_threshold)
            mismatching += index is not None
        sums = [values.double().sum().cpu() for values in (q - p, forward, reverse)]
        totals += torch.stack(sums)
        tokens += len(q)
    margin, forward_mean, reverse_mean = (totals / tokens).tolist()
    return Agreement(
        samples=len(completions),
        mismatch_share=mismatching / len(completions),
        mean_margin=margin,
        forward_kl=forward_mean,
        reverse_kl=reverse_mean,
    )


def _compare(model: PackedModel, teacher: PackedModel, batch: dict[str, Tensor]) -> Tensor:
    """Log-probability under both, forward and reverse KL [4, N] at each completion token."""
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    pack = Pack(batch["lengths"].tolist(), model.device)
    hidden = []
    for one in (model, teacher):
        with one.following():
            hidden.append(one.hidden(batch["input_ids"], pack)[batch["predictors"]])
    size = model.positions_at_once
    parts = [torch.split(rows, size) for rows in (*hidden, batch["targets"])]
    blocks = []
    for ours, theirs, ids in zip(*parts, strict=True):
        student, reference = model.logits(ours), teacher.logits(theirs)
        mask = torch.ones_like(ids, dtype=torch.bool)
        values = (
            gather_logprobs(student, ids),
            gather_logprobs(reference, ids),
            forward_kl(reference, student, mask),
            reverse_kl(reference, student, mask),
        )
        blocks.append(torch.stack(values))
    return torch.cat(blocks, dim=-1)
