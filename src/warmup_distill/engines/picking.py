"""One token out of the logits of many rows. Over a whole vocabulary every pass counts.

Shape letters: n row, V vocabulary, U vocabulary filled up with zeros to whole blocks, M block, or
weight of a block.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 256
"""Tokens summed together before the cumulative sum, which is slow over a whole vocabulary."""


def draw_tokens(
    logits_nV: Tensor,
    numbers_n: Tensor,
    banned: Sequence[tuple[int, int]],
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """One token a row [n] and its log-probability [n] under the untempered, unmasked model.

    `logits_nV` is overwritten. Whether the log-probabilities are finite is for the caller to ask.
    """
    scores_nV = logits_nV.sub_(logits_nV.amax(-1, keepdim=True))
    weights_nU = _blocks_for(scores_nV)
    weights_nV = weights_nU[:, : scores_nV.shape[-1]]
    torch.exp(scores_nV, out=weights_nV)
    normalizer_n1 = weights_nV.sum(-1, keepdim=True).log()
    if temperature not in (0, 1):
        torch.exp(scores_nV / temperature, out=weights_nV)
    if banned:
        where, tokens = (list(column) for column in zip(*banned, strict=True))
        weights_nV[where, tokens] = 0.0
        scores_nV[where, tokens] = -torch.inf
    if temperature == 0:
        tokens_n = scores_nV.argmax(-1)
    else:
        tokens_n = invert_cdf(weights_nU, numbers_n).clamp_(max=scores_nV.shape[-1] - 1)
    chosen_n1 = scores_nV.gather(-1, tokens_n[:, None])
    return tokens_n, (chosen_n1 - normalizer_n1).squeeze(-1)


def _blocks_for(scores_nV: Tensor) -> Tensor:
    """Room for the weights of scores, in whole blocks: zeros after the last of them."""
    rows, size = scores_nV.shape
    weights_nU = scores_nV.new_empty(rows, -(-size // BLOCK) * BLOCK)
    weights_nU[:, size:].zero_()
    return weights_nU


def invert_cdf(weights_nU: Tensor, numbers_n: Tensor) -> Tensor:
    """The token [n] at which the cumulative weight first exceeds a share in [0, 1) of the whole.

    Blocks are summed first, then one block is searched. Never a token of weight zero: each target
    stays below the sum that is really reached. Of weights that are nan it is the last one.
    """
    blocks = weights_nU.view(len(weights_nU), -1, BLOCK)
    ends = blocks.sum(-1).double().cumsum(-1)
    block, target = _first_above(ends, numbers_n[:, None] * ends[:, -1:])
    block.clamp_(max=ends.shape[-1] - 1)
    start = ends.gather(-1, (block - 1).clamp(min=0)).masked_fill_(block == 0, 0.0)
    rows = torch.arange(len(blocks), device=blocks.device)
    within = blocks[rows, block.squeeze(-1)].double().cumsum(-1)
    place, _ = _first_above(within, target - start)
    return (block * BLOCK + place).squeeze(-1)


def _first_above(ends: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Where cumulative sums [n, M] first exceed a target [n, 1], which is kept below the last."""
    total = ends[:, -1:]
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(ends, target, right=True), target
