"""How far a model is from the teacher on its own samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from warmup_distill.engines.fitting import MOST_IN_A_PASS
from warmup_distill.engines.mismatch import find_mismatch
from warmup_distill.losses import forward_kl, reverse_kl
from warmup_distill.tree.pack import Pack, batches_by_size, pack_completions
from warmup_distill.tree.packed import PackedModel, gather_logprobs


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far a model is from the teacher on one sample: sums over its tokens, in nats."""

    tokens: int
    has_mismatch: bool
    """Whether the margin of a token exceeds the threshold."""
    margin: float
    """log q − log p."""
    forward_kl: float
    """KL(teacher ‖ model)."""
    reverse_kl: float
    """KL(model ‖ teacher)."""


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


def agreement(distances: Sequence[Distance]) -> Agreement:
    """The means over some samples."""
    tokens = sum(one.tokens for one in distances)
    return Agreement(
        samples=len(distances),
        mismatch_share=sum(one.has_mismatch for one in distances) / len(distances),
        mean_margin=sum(one.margin for one in distances) / tokens,
        forward_kl=sum(one.forward_kl for one in distances) / tokens,
        reverse_kl=sum(one.reverse_kl for one in distances) / tokens,
    )


@torch.inference_mode()
def measure_distances(
    model: PackedModel,
    teacher: PackedModel,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    *,
    margin_threshold: float,
    batch_tokens: int,
    advance: Callable[[int], object] = lambda tokens: None,
) -> list[Distance]:
    """Compare two models on completions that the first one drew, over the whole vocabulary.

    Args:
        advance: called with the number of completion tokens just compared.
    """
    found: dict[int, Distance] = {}
    lengths = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
    for indices in batches_by_size(lengths, min(batch_tokens, MOST_IN_A_PASS)):
        batch = pack_completions(
            [prompts[i] for i in indices],
            [completions[i] for i in indices],
            to_the_end=model.by_length or teacher.by_length,
        )
        values = _compare(model, teacher, batch).double().cpu()
        counts = [len(completions[i]) for i in indices]
        for i, part in zip(indices, torch.split(values, counts, dim=-1), strict=True):
            found[i] = _distance(part, margin_threshold)
        advance(sum(counts))
    return [found[i] for i in range(len(completions))]


def _distance(values: Tensor, margin_threshold: float) -> Distance:
    """Of one completion, from what `_compare` found at its tokens [4, T]."""
    ours, theirs, forward, reverse = values.unbind()
    index, _ = find_mismatch(ours.tolist(), theirs.tolist(), margin_threshold)
    return Distance(
        tokens=values.shape[-1],
        has_mismatch=index is not None,
        margin=float((ours - theirs).sum()),
        forward_kl=float(forward.sum()),
        reverse_kl=float(reverse.sum()),
    )


def _compare(model: PackedModel, teacher: PackedModel, batch: dict[str, Tensor]) -> Tensor:
    """Log-probability under both, forward and reverse KL [4, N] at each completion token."""
    hidden = []
    for one in (model, teacher):
        pack = Pack(batch["lengths"].tolist(), one.device)
        with one.following():
            states = one.hidden(batch["input_ids"].to(one.device), pack)
        hidden.append(states[batch["predictors"].to(one.device)])
    size = model.positions_at_once
    targets = batch["targets"].to(model.device)
    parts = [torch.split(rows, size) for rows in (*hidden, targets)]
    blocks = []
    for ours, theirs, ids in zip(*parts, strict=True):
        student, reference = model.logits(ours), teacher.logits(theirs).to(model.device)
        mask = torch.ones_like(ids, dtype=torch.bool)
        values = (
            gather_logprobs(student, ids),
            gather_logprobs(reference, ids),
            forward_kl(reference, student, mask),
            reverse_kl(reference, student, mask),
        )
        blocks.append(torch.stack(values))
    return torch.cat(blocks, dim=-1)
