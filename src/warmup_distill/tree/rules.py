"""How one layer attends: its scale, its cap, its sinks and its window.

Shape letters: P sequence, W query, U key, H query head, K key head, D head dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOGITS_AT_ONCE = 2**24
"""Attention logits held at one time where SDPA cannot be used, 64 MiB in float32."""


@dataclass(frozen=True)
class Rules:
    """How one layer attends in one pass."""

    scale: float
    """Of query times key."""
    softcap: float | None = None
    """Attention logits are bent to stay within it (Gemma 2)."""
    sinks: Tensor | None = None
    """[H], a logit per head that takes part in the softmax and has no value (gpt-oss)."""
    window: int | None = None
    """So many tokens are seen, oneself among them; absent where it is all before oneself."""

    def bend(self, logits: Tensor) -> Tensor:
        """Attention logits, capped where the layer caps them."""
        if self.softcap is None:
            return logits
        return self.softcap * torch.tanh(logits / self.softcap)


def sees(window: int | None, queries: Tensor, keys: Tensor) -> Tensor:
    """Whether a query at one depth sees a key at another; depths are broadcast.

    As `sliding_window_causal_mask_function` of `transformers`.
    """
    earlier = keys <= queries
    return earlier if window is None else earlier & (keys > queries - window)


def attention(
    query: Tensor, key: Tensor, value: Tensor, rules: Rules, mask: Tensor | None = None
) -> Tensor:
    """Attention with grouped heads: [P, H, W, D] on [P, K, U, D].

    Args:
        query, key, value: of the sequences side by side.
        rules: of the layer; its window is in `mask` already.
        mask: what is seen, [..., W, U] broadcast to [P, H, W, U]; causal if absent.
    """
    if rules.softcap is not None or rules.sinks is not None:
        return _in_blocks(query, key, value, rules, mask)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=rules.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _in_blocks(
    query: Tensor, key: Tensor, value: Tensor, rules: Rules, mask: Tensor | None
) -> Tensor:
    """A block of queries at a time; in the backward pass their logits are computed again."""
    if mask is None:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        mask = mask.tril()
    size = max(1, LOGITS_AT_ONCE // (query.shape[0] * query.shape[1] * key.shape[2]))
    blocks = zip(torch.split(query, size, 2), torch.split(mask, size, -2), strict=True)
    attend: Callable[..., Tensor] = _by_hand
    if torch.is_grad_enabled():
        attend = partial(checkpoint, _by_hand, use_reentrant=False, preserve_rng_state=False)
    outputs = [attend(queries, key, value, rules, seen) for queries, seen in blocks]
    return torch.cat(outputs, dim=2)


def _by_hand(query: Tensor, key: Tensor, value: Tensor, rules: Rules, mask: Tensor) -> Tensor:
    """As the `eager` attention of `transformers`, with the softmax in float32."""
    heads, steps = query.shape[1:3]
    kept = key.shape[1]
    rows = query.reshape(len(query), kept, -1, query.shape[-1])  # [P, K, H / K · W, D]
    logits = rules.bend((rows @ key.transpose(-1, -2)).float() * rules.scale)
    logits = logits.reshape(len(query), heads, steps, -1)  # [P, H, W, U]
    logits = logits.masked_fill(~mask, -torch.inf)
    if rules.sinks is not None:
        sinks = rules.sinks.float().reshape(-1, 1, 1).expand(*logits.shape[:-1], 1)
        logits = torch.cat([logits, sinks], dim=-1)
    weights = logits.softmax(-1)[..., : key.shape[2]].to(value.dtype)
    rows = weights.reshape(len(query), kept, -1, key.shape[2]) @ value
    return rows.reshape(len(query), heads, steps, -1)
