"""How far the branches at work are looked at: what Python knows of a step, for several of them.

Shape letters: B branch, n branch at work, T token that a branch can hold, W and L key of trunk and
of branch, K key head, R = n · K, D head dimension.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from warmup_distill.tree.places import Work

Kept = tuple[Tensor, Tensor]
"""Keys and values of a layer."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """One layer's keys and values, as a pass reads and writes them."""

    trunk_keys: Tensor
    """[trunk · K, D, W]"""
    trunk_values: Tensor
    """[trunk · K, W, D]"""
    keys: Tensor
    """[R, D, L]"""
    values: Tensor
    """[R, L, D]"""
    key_rows: Tensor
    """[B · K · T, D], of all that is kept."""
    value_rows: Tensor


class Reach:
    """How far the branches at work are looked at.

    Args:
        work: the branches.
        layers: what each layer keeps, [B, K, T, D] with room for `capacity` tokens.
        lengths: [n], tokens of each branch, read from here by every pass.
        shortest: tokens that every branch has, now and later.
        width: tokens of a branch that are looked at; none has more after a pass.
    """

    def __init__(
        self, work: Work, layers: dict[int, Kept], capacity: int, lengths: Tensor,
        shortest: int, width: int,
    ) -> None:  # fmt: skip
        self.work, self.lengths, self.capacity, self.width = work, lengths, capacity, width
        self.seen_by_all = shortest + 1
        self.longest = work.wide + width
        self.columns = torch.arange(width, device=lengths.device)
        self._layers = layers
        self._views: dict[int, Views] = {}
        self._starts: dict[int, Tensor] = {}

    def views(self, layer: int) -> Views:
        """Made once: every view costs Python as much as an operation."""
        if layer not in self._views:
            count, (keys, values) = len(self.work.rows), self._layers[layer]
            trunk_keys, trunk_values = (
                kept[: self.work.shape[0], :, : self.work.wide].flatten(0, 1)
                for kept in self.work.trunks.layers[layer]
            )
            self._views[layer] = Views(
                trunk_keys=trunk_keys.transpose(1, 2),
                trunk_values=trunk_values,
                keys=keys[:count, :, : self.width].flatten(0, 1).transpose(1, 2),
                values=values[:count, :, : self.width].flatten(0, 1),
                key_rows=keys.view(-1, keys.shape[-1]),
                value_rows=values.view(-1, values.shape[-1]),
            )
        return self._views[layer]

    def starts(self, heads: int) -> Tensor:
        """[n, K], where each branch begins in a layer's rows [B · K · T]; made once."""
        if heads not in self._starts:
            rows = self.work.rows
            numbers = rows[:, None] * heads + torch.arange(heads, device=rows.device)
            self._starts[heads] = numbers * self.capacity
        return self._starts[heads]
