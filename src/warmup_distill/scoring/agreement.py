"""How far a model is from the teacher on its own samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.forward import (
    batches,
    collate,
    completion_ids,
    completion_logits,
    gather_logprobs,
    to_device,
)
from warmup_distill.losses import forward_kl, reverse_kl
from warmup_distill.mismatch import find_mismatch
from warmup_distill.vocabulary import Vocabulary


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
    model: PreTrainedModel,
    teacher: PreTrainedModel,
    vocabulary: Vocabulary,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    *,
    margin_threshold: float,
    batch_size: int,
) -> Agreement:
    """Compare two models on completions that the first one drew, over the whole vocabulary."""
    mismatching, totals, tokens = 0, torch.zeros(3, dtype=torch.float64), 0
    for indices in batches(completions, batch_size, vocabulary):
        rows = [prompts[i] for i in indices], [completions[i] for i in indices]
        batch = to_device(collate(*rows, vocabulary.pad_id), model.device)
        ids, mask = completion_ids(batch), batch["completion_mask"]
        student = completion_logits(model, batch, vocabulary)
        reference = completion_logits(teacher, batch, vocabulary)
        q, p = gather_logprobs(student, ids), gather_logprobs(reference, ids)
        for q_row, p_row, keep in zip(q, p, mask, strict=True):
            index, _ = find_mismatch(q_row[keep].tolist(), p_row[keep].tolist(), margin_threshold)
            mismatching += index is not None
        values: list[Tensor] = [
            torch.where(mask, q - p, 0.0),
            forward_kl(reference, student, mask),
            reverse_kl(reference, student, mask),
        ]
        totals += torch.stack([value.double().sum().cpu() for value in values])
        tokens += int(mask.sum())
    margin, forward, reverse = (totals / tokens).tolist()
    return Agreement(
        samples=len(completions),
        mismatch_share=mismatching / len(completions),
        mean_margin=margin,
        forward_kl=forward,
        reverse_kl=reverse,
    )
