"""Attention to some of the keys at a time; parts are joined by their normalisers.

Shape letters: K key head, M query, U key, D head dimension.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from warmup_distill.tree.rules import Rules


class Part(NamedTuple):
    """Attention to a part of the keys, not yet normalised."""

    values: Tensor
    """[..., K, M, D], weighted and summed; weights are exp(logit − top)."""
    total: Tensor
    """[..., K, M, 1], the sum of the weights."""
    top: Tensor
    """[..., K, M, 1], the largest logit."""


def attend_part(query: Tensor, key: Tensor, value: Tensor, unseen: Tensor, rules: Rules) -> Part:
    """Scaled queries [..., K, M, D] on keys and values [..., K, U, D].

    `unseen` is about the last keys; those before are seen by all. A part of which nothing is seen
    has the lowest logit there is at its top, and so no weight beside another part.
    """
    logits = rules.bend((query @ key.transpose(-1, -2)).float())
    if unseen.shape[-1]:
        lowest = torch.finfo(logits.dtype).min
        logits[..., -unseen.shape[-1] :].masked_fill_(unseen, lowest)
    top = logits.amax(-1, keepdim=True)
    weights = logits.sub_(top).exp_()
    return Part((weights.to(value.dtype) @ value).float(), weights.sum(-1, keepdim=True), top)


def with_sinks(part: Part, sinks: Tensor) -> Part:
    """A part and a key without value, at logits [K, M, 1]."""
    top = torch.maximum(part.top, sinks)
    share = (part.top - top).exp()
    return Part(part.values * share, part.total * share + (sinks - top).exp(), top)


def join(one: Part, other: Part) -> Tensor:
    """The attention [..., K, M, D] to both parts together."""
    top = torch.maximum(one.top, other.top)
    a, b = (one.top - top).exp(), (other.top - top).exp()
    return (a * one.values + b * other.values) / (a * one.total + b * other.total)
