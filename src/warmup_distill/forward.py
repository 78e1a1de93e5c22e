"""Plain forward passes over padded batches: logits and log-probabilities of completions.

Shape letters: B row, S prompt and completion, T completion position, V vocabulary.
Rows are padded on the left, so that every completion ends at the last position and the head runs
on the last T + 1 positions alone.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.vocabulary import Vocabulary

LOGITS_AT_ONCE = 2**26
"""Logits held at one time, 256 MiB in float32: bounds memory whatever the vocabulary."""


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of ids as [B, S] and their attention mask [B, S], real tokens at the right."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.tensor(row)
        mask[index, width - len(row) :] = 1
    return ids, mask


def positions_of(mask: Tensor) -> Tensor:
    """Position ids [B, S] of left-padded rows: each row counts from 0 at its first real token."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def collate(
    prefixes: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], pad_id: int
) -> dict[str, Tensor]:
    """One batch of rows `prefix + completion`.

    Returns:
        input_ids [B, S], attention_mask [B, S], and completion_mask [B, T] bool, True where one
        of the last T positions belongs to a completion; T is the longest completion.
    """
    rows = [[*prefix, *ending] for prefix, ending in zip(prefixes, completions, strict=True)]
    ids, mask = pad_left(rows, pad_id)
    lengths = torch.tensor([len(completion) for completion in completions])
    places = torch.arange(int(lengths.max()), 0, -1)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "completion_mask": places <= lengths[:, None],
    }


def completion_logits(
    model: PreTrainedModel, batch: dict[str, Tensor], vocabulary: Vocabulary
) -> Tensor:
    """Logits [B, T, V] float32, cut to the vocabulary, that predict each completion token."""
    width = batch["completion_mask"].shape[-1]
    output = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=positions_of(batch["attention_mask"]),
        logits_to_keep=width + 1,
        use_cache=False,
    )
    logits: Tensor = output.logits[:, :-1, : vocabulary.size]
    return logits.float()


def completion_ids(batch: dict[str, Tensor]) -> Tensor:
    """The ids [B, T] that `completion_logits` predicts."""
    return batch["input_ids"][:, -batch["completion_mask"].shape[-1] :]


def gather_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """log p(id) at each position: logits [..., V] float32, ids [...]; returns [...] in nats."""
    chosen = logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(-1)


def batches(
    completions: Sequence[list[int]], batch_size: int, vocabulary: Vocabulary
) -> Iterator[list[int]]:
    """Indices of completions in batches of like length, bounded by rows and by logits held."""
    batch: list[int] = []
    for index in sorted(range(len(completions)), key=lambda i: (len(completions[i]), i)):
        logits = (len(batch) + 1) * (len(completions[index]) + 1) * vocabulary.size
        if batch and (len(batch) == batch_size or logits > LOGITS_AT_ONCE):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def completion_logprobs(
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    prefixes: Sequence[list[int]],
    completions: Sequence[list[int]],
    batch_size: int,
) -> list[list[float]]:
    """Log-probability of every token of every completion, in nats."""
    results: list[list[float]] = [[] for _ in completions]
    for indices in batches(completions, batch_size, vocabulary):
        batch = to_device(
            collate(
                [prefixes[i] for i in indices],
                [completions[i] for i in indices],
                vocabulary.pad_id,
            ),
            model.device,
        )
        logits = completion_logits(model, batch, vocabulary)
        logprobs = gather_logprobs(logits, completion_ids(batch))
        for row, index in zip(logprobs, indices, strict=True):
            results[index] = row[len(row) - len(completions[index]) :].tolist()
    return results


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}
