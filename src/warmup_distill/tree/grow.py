"""The tree that grows: prompts as trunks, completions as branches, keys and values kept.

A trunk is computed once and shared by its branches. A branch is fed a few tokens at a time, can be
cut back to any length and grow on from there; nothing is computed twice.

Shape letters: P trunk, B branch, n branch at work, T token of a branch, S token of the packed row,
K key head, D head dimension, E width of the hidden states.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.places import Shelf, Trunks, Work
from warmup_distill.tree.reach import Reach
from warmup_distill.tree.step import Step


class TokenTree:
    """Keys, values and hidden states of some prompts and their branches under one model.

    Branches are named by their numbers, 0 to B − 1. Those at work stand in the first places of
    every tensor (`bring`), so that a step reads them without copying. All tensors stay where they
    are for as long as there is the tree.

    Args:
        model: inside its `following()`.
        prompts: token ids, one list per trunk.
        owners: for each branch the number of its trunk.
        capacity: tokens that a branch can hold.
    """

    def __init__(
        self,
        model: TreeModel,
        prompts: Sequence[Sequence[int]],
        owners: Sequence[int],
        capacity: int,
    ) -> None:
        self.model = model
        self.capacity = max(1, capacity)
        self._trunks = trunks = Trunks(model, prompts)
        self._shelf = Shelf(len(owners))
        self._owners = list(owners)
        self._known = dict.fromkeys(range(len(owners)), 0)
        lengths = torch.zeros(len(owners), dtype=torch.long, device=model.device)
        self._lengths = self._shelf.keep(lengths)
        """Tokens of each branch: for Python, which never asks the device, and for the device."""
        self._layers = {
            layer: (self._room(keys), self._room(values))
            for layer, (keys, values) in trunks.layers.items()
        }
        shape = len(owners), self.capacity, trunks.hidden.shape[-1]
        self._hidden = self._shelf.keep(trunks.hidden.new_empty(shape))
        self.bring(range(len(owners)))

    def _room(self, kept: Tensor) -> Tensor:
        """For the keys or values [B, K, T, D] of a layer, as the trunks' [P, K, W, D]."""
        shape = len(self._owners), kept.shape[1], self.capacity, kept.shape[3]
        # Zeros: what is masked has weight 0, and 0 times whatever was in memory may be nan.
        return self._shelf.keep(kept.new_zeros(shape))

    def bring(self, branches: Sequence[int]) -> list[int]:
        """Put these branches to work; returns them in the order of their places."""
        self._shelf.bring(branches)
        self._order = order = self._shelf.at[: len(branches)]
        self._work = Work([self._owners[branch] for branch in order], self._trunks)
        self._reach: Reach | None = None
        return order

    def lengths(self) -> list[int]:
        """Tokens of each branch at work, in the order of their places."""
        return [self._known[branch] for branch in self._order]

    def cut(self, lengths: dict[int, int]) -> None:
        """Cut branches back to some of their tokens; `bring` has to follow."""
        for branch, length in lengths.items():
            self._known[branch] = length
        known = [self._known[branch] for branch in self._shelf.at]
        self._lengths.copy_(torch.tensor(known))

    def tips(self) -> Tensor:
        """Hidden states [n, E] after the last token of each branch at work."""
        lengths = self._lengths[: len(self._order)]
        branch = self._hidden[self._work.rows, (lengths - 1).clamp(min=0)]
        return torch.where(lengths[:, None] > 0, branch, self._trunks.hidden[self._work.trunk])

    def feed(self, ids: Tensor, counts: Sequence[int]) -> Tensor:
        """Grow the branches at work and return the hidden states [S, E] after each new token.

        Args:
            ids: [S], the new tokens of the first branch at work, of the second, and so on.
            counts: how many belong to each, at least one.
        """
        before = self.lengths()
        after = [length + count for length, count in zip(before, counts, strict=True)]
        hidden = self._run(ids, Step(self._reach_to(max(after), min(before)), counts))
        self._lengths[: len(counts)] += torch.tensor(counts, device=self._lengths.device)
        self._known.update(zip(self._order, after, strict=True))
        return hidden

    def widen(self, width: int) -> None:
        """Let the branches at work have so many tokens each in the steps that come.

        Besides `bring`, it alone decides which tensors a `step` reads and writes.
        """
        self._reach = self._reach_to(min(width, self.capacity), min(self.lengths()))

    def step(self, ids: Tensor) -> Tensor:
        """Grow the branches at work by one token each, [n], and return the hidden states [n, E].

        Nothing here waits for the device, and nothing that Python keeps is changed: `count` is told
        of steps once they are done. A branch that is full has its last token written over.
        """
        assert self._reach is not None, "widen comes before step"
        hidden = self._run(ids, Step(self._reach))
        self._lengths[: len(ids)] += 1
        return hidden

    def count(self, steps: int) -> None:
        """The branches at work have grown by so many steps."""
        for branch in self._order:
            self._known[branch] += steps

    def _reach_to(self, width: int, shortest: int) -> Reach:
        lengths = self._lengths[: len(self._order)]
        return Reach(self._work, self._layers, self.capacity, lengths, shortest, width)

    def _run(self, ids: Tensor, step: Step) -> Tensor:
        hidden = self.model.hidden(ids, step)
        self._hidden.view(-1, hidden.shape[-1]).index_copy_(0, step.at(heads=1), hidden)
        return hidden
