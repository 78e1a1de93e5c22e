"""Drawing tokens one at a time from a model, rows side by side.

Shape letters: B row, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from warmup_distill.forward import pad_left, positions_of
from warmup_distill.randomness import uniforms
from warmup_distill.records import Sample
from warmup_distill.vocabulary import Vocabulary


@dataclass(kw_only=True)
class Row:
    """One completion in the making."""

    stream: int
    max_new_tokens: int
    banned_first: int | None = None
    """A token that may not come first."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def finished(self, vocabulary: Vocabulary) -> bool:
        ended = bool(self.ids) and self.ids[-1] in vocabulary.eos_ids
        return ended or len(self.ids) >= self.max_new_tokens

    def sample(self, vocabulary: Vocabulary) -> Sample:
        ended = self.ids[-1] in vocabulary.eos_ids
        return Sample(
            ids=self.ids, logprobs=self.logprobs, finish_reason="eos" if ended else "length"
        )


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    prefixes: Sequence[list[int]],
    rows: Sequence[Sequence[Row]],
    temperature: float,
) -> None:
    """Complete every row in place, for each prefix one or more.

    A prefix is run once and its keys and values are repeated for its rows; a row that is finished
    leaves the batch.
    """
    ids, mask = (part.to(model.device) for part in pad_left(prefixes, vocabulary.pad_id))
    counts = torch.tensor([len(group) for group in rows], device=model.device)
    active = [row for group in rows for row in group]
    cache = DynamicCache(config=model.config)
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_of(mask),
        past_key_values=cache,
        logits_to_keep=1,
        use_cache=True,
    )
    owner = torch.arange(len(prefixes), device=model.device).repeat_interleave(counts)
    logits, mask = output.logits[owner], mask[owner]
    cache.batch_select_indices(owner)
    while True:
        tokens, logprobs = _draw(logits[:, -1, : vocabulary.size].float(), active, temperature)
        for row, token, logprob in zip(active, tokens.tolist(), logprobs.tolist(), strict=True):
            row.ids.append(token)
            row.logprobs.append(logprob)
        going = [i for i, row in enumerate(active) if not row.finished(vocabulary)]
        if not going:
            return
        if len(going) < len(active):
            keep = torch.tensor(going, device=model.device)
            active, tokens, mask = [active[i] for i in going], tokens[keep], mask[keep]
            cache.batch_select_indices(keep)
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=-1)
        logits = model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=positions_of(mask)[:, -1:],
            past_key_values=cache,
            use_cache=True,
        ).logits


def _draw(logits_BV: Tensor, rows: Sequence[Row], temperature: float) -> tuple[Tensor, Tensor]:
    """One token a row [B] and its log-probability [B] under the untempered, unmasked model."""
    logprobs_BV = logits_BV.log_softmax(-1)
    scores_BV = logprobs_BV
    position = len(rows[0].ids)
    banned = [(i, row.banned_first) for i, row in enumerate(rows) if row.banned_first is not None]
    if position == 0 and banned:
        scores_BV = logprobs_BV.clone()
        where, tokens = zip(*banned, strict=True)
        scores_BV[list(where), list(tokens)] = -torch.inf
    if temperature == 0:
        tokens_B = scores_BV.argmax(-1)
    else:
        streams = np.array([row.stream for row in rows], dtype=np.uint64)
        numbers_B = torch.from_numpy(uniforms(streams, position)).to(logits_BV.device)
        tokens_B = invert_cdf((scores_BV / temperature).softmax(-1), numbers_B)
    return tokens_B, logprobs_BV.gather(-1, tokens_B[:, None]).squeeze(-1)


def invert_cdf(probabilities_BV: Tensor, numbers_B: Tensor) -> Tensor:
    """The token [B] at which the cumulative probability first exceeds each number in [0, 1).

    Never a token of probability zero: the target stays below the sum that was really reached.
    """
    cumulative_BV = probabilities_BV.cumsum(-1)
    total_B1 = cumulative_BV[:, -1:]
    below_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
    target_B1 = torch.minimum(numbers_B[:, None].to(total_B1.dtype) * total_B1, below_B1)
    return torch.searchsorted(cumulative_BV, target_B1, right=True).squeeze(-1)
