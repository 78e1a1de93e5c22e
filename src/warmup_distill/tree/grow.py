"""The tree that grows: prompts as trunks, completions as branches, keys and values kept.

A trunk is computed once and shared by its branches. A branch is fed a few tokens at a time, can be
cut back to any length and grow on from there; nothing is computed twice.

Shape letters: P trunk, W token of the longest trunk, B branch, n branch at work, T token of a
branch, S token of the packed row, H query head, K key head, G query heads per key head, D head
dimension, E width of the hidden states.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.pack import Grid, Pack
from warmup_distill.tree.parts import Part, attend_part, join, with_sinks
from warmup_distill.tree.rules import Rules, sees


class TokenTree:
    """Keys, values and hidden states of some prompts and their branches under one model.

    Branches are named by their numbers, 0 to B − 1. Those at work stand in the first places of
    every tensor (`bring`), so that a step reads them without copying.

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
        self._trunks = _Trunks(model, prompts)
        self._shelf = _Shelf(len(owners))
        self._owners = self._shelf.keep(torch.tensor(owners, device=model.device))
        self._lengths = self._shelf.keep(torch.zeros_like(self._owners))
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._hidden: Tensor | None = None
        self.bring(range(len(owners)))

    def bring(self, branches: Sequence[int]) -> list[int]:
        """Put these branches to work; returns them in the order of their places."""
        self._shelf.bring(branches)
        self._work = _Work(self._owners[: len(branches)], self._trunks)
        return self._shelf.at[: len(branches)]

    def cut(self, lengths: dict[int, int]) -> None:
        """Cut branches back to some of their tokens."""
        for place, branch in enumerate(self._shelf.at):
            if branch in lengths:
                self._lengths[place] = lengths[branch]

    def tips(self) -> Tensor:
        """Hidden states [n, E] after the last token of each branch at work."""
        trunk = self._trunks.hidden[self._work.trunk]
        if self._hidden is None:
            return trunk
        lengths = self._lengths[: len(trunk)]
        places = torch.arange(len(trunk), device=lengths.device)
        branch = self._hidden[places, (lengths - 1).clamp(min=0)]
        return torch.where(lengths[:, None] > 0, branch, trunk)

    def feed(self, ids: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Grow the branches at work and return the hidden states [S, E] after each new token.

        Args:
            ids: [S], the new tokens of the first branch at work, of the second, and so on.
            counts: how many belong to each, at least one; one each if absent.
        """
        step = _Step(self, counts)
        hidden = self.model.hidden(ids, step)
        if self._hidden is None:
            shape = len(self._owners), self.capacity, hidden.shape[-1]
            self._hidden = self._shelf.keep(hidden.new_empty(shape))
        self._hidden[step.rows, step.places] = hidden
        self._lengths[: len(step.counts)] += step.counts
        return hidden

    def layer(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The kept keys and values [B, K, T, D] of a layer, made when its first ones come."""
        if layer not in self._layers:
            self._layers[layer] = self._empty(key), self._empty(value)
        return self._layers[layer]

    def _empty(self, rows: Tensor) -> Tensor:
        shape = len(self._owners), rows.shape[1], self.capacity, rows.shape[2]
        # Zeros: what is masked has weight 0, and 0 times whatever was in memory may be nan.
        return self._shelf.keep(rows.new_zeros(shape))


class _Shelf:
    """Tensors whose rows move together, so that the wanted ones always come first."""

    def __init__(self, count: int) -> None:
        self.at = list(range(count))
        """Which row is in each place."""
        self._tensors: list[Tensor] = []

    def keep(self, tensor: Tensor) -> Tensor:
        """Move this one too; its rows are in the order of the places."""
        self._tensors.append(tensor)
        return tensor

    def bring(self, rows: Sequence[int]) -> None:
        """Swap these rows into the first places, moving as few as can be."""
        wanted, count = set(rows), len(rows)
        leaving = [place for place in range(count) if self.at[place] not in wanted]
        if not leaving:
            return
        coming = [place for place in range(count, len(self.at)) if self.at[place] in wanted]
        for a, b in zip(leaving, coming, strict=True):
            self.at[a], self.at[b] = self.at[b], self.at[a]
        for tensor in self._tensors:
            a_index, b_index = (torch.tensor(p, device=tensor.device) for p in (leaving, coming))
            tensor[a_index], tensor[b_index] = tensor[b_index], tensor[a_index]


class _Trunks(Pack):
    """Prompts, run once; their keys and values [P, K, W, D] stay."""

    def __init__(self, model: TreeModel, prompts: Sequence[Sequence[int]]) -> None:
        lengths = [len(prompt) for prompt in prompts]
        super().__init__(lengths, model.device)
        self.shelf = _Shelf(len(prompts))
        self.depths = self.shelf.keep(torch.tensor(lengths, device=model.device))
        self.unseen = self.shelf.keep(~self.grid.real)
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        ids = torch.tensor([token for prompt in prompts for token in prompt], device=model.device)
        self.hidden = self.shelf.keep(model.hidden(ids, self)[self.grid.ends])
        """[P, E] after each prompt."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        """See `Layout.attend`."""
        grids = (self.grid.pad(rows).transpose(1, 2).contiguous() for rows in (key, value))
        keys, values = (self.shelf.keep(grid) for grid in grids)
        self.layers[layer] = keys, values
        return super().attend(layer, query, key, value, rules)


class _Work:
    """Branches at work, by the trunks they grow from: a rectangle [trunk, slot]."""

    def __init__(self, owners: Tensor, trunks: _Trunks) -> None:
        used = torch.unique(owners).tolist()
        trunks.shelf.bring(used)
        place_of = {trunk: place for place, trunk in enumerate(trunks.shelf.at)}
        places = [place_of[owner] for owner in owners.tolist()]
        taken = [0] * len(used)
        slots = []
        for place in places:
            slots.append(taken[place])
            taken[place] += 1
        self.trunks = trunks
        self.trunk, self.slot = (torch.tensor(p, device=owners.device) for p in (places, slots))
        self.shape = len(used), max(taken)
        self.full = int(trunks.depths[: len(used)].min())
        """Tokens that every trunk at work has."""

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values [trunk, K, W, D] of the trunks at work."""
        keys, values = self.trunks.layers[layer]
        return keys[: self.shape[0]], values[: self.shape[0]]

    def unseen(self) -> Tensor:
        """[trunk, W − full], what is padding beyond `full`."""
        return self.trunks.unseen[: self.shape[0], self.full :]

    def gather(self, rows: Tensor) -> Tensor:
        """[n, K, M, D] to [trunk, K, slot · M, D]; empty slots hold zeros."""
        grid = rows.new_zeros(*self.shape, *rows.shape[1:])
        grid[self.trunk, self.slot] = rows
        return grid.transpose(1, 2).flatten(2, 3)

    def scatter(self, grid: Tensor) -> Tensor:
        """The inverse: [trunk, K, slot · M, X] to [n, K, M, X]."""
        slots = grid.reshape(*grid.shape[:2], self.shape[1], -1, grid.shape[-1]).transpose(1, 2)
        return slots[self.trunk, self.slot]


class _Step:
    """The layout of one `feed`: new tokens see their trunk, and their branch up to themselves."""

    def __init__(self, tree: TokenTree, counts: Sequence[int] | None) -> None:
        self.tree, self.work = tree, tree._work
        count = len(self.work.trunk)
        lengths = tree._lengths[:count]
        device = lengths.device
        self.grid = Grid(counts, device) if counts else None
        self.counts = torch.tensor(counts, device=device) if counts else torch.ones_like(lengths)
        self.rows = torch.arange(count, device=device).repeat_interleave(self.counts)
        self.places = lengths[self.rows] + (self.grid.places if self.grid else 0)
        self.positions = self.work.trunks.depths[self.work.trunk][self.rows] + self.places
        self.longest = int(self.positions.max()) + 1
        self.width = int((lengths + self.counts).max())
        reach = self.places if self.grid is None else self.grid.pad(self.places)
        self.reach = reach.view(count, -1)  # [n, T]
        self.seen_by_all = int(lengths.min()) + 1
        self._masks: dict[tuple[int | None, int], tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        """See `Layout.attend`: trunk and branch apart, joined by their normalisers."""
        keys, values = self.tree.layer(layer, key, value)
        keys[self.rows, :, self.places] = key
        values[self.rows, :, self.places] = value
        count, heads = len(self.work.trunk), keys.shape[1]
        grid = query[:, None] if self.grid is None else self.grid.pad(query)  # [n, T, H, D]
        steps, groups = grid.shape[1], grid.shape[2] // heads
        split = grid.reshape(count, steps, heads, groups, -1)
        rows = split.permute(0, 2, 3, 1, 4).flatten(2, 3) * rules.scale
        unseen, unseen_trunk = self._unseen(rules.window, groups)
        own_keys, own_values = keys[:count, :, : self.width], values[:count, :, : self.width]
        own = attend_part(rows, own_keys, own_values, unseen, rules)
        trunk = attend_part(self.work.gather(rows), *self.work.layer(layer), unseen_trunk, rules)
        if rules.sinks is not None:
            sinks = rules.sinks.float().reshape(heads, -1, 1).expand(-1, -1, steps)
            own = with_sinks(own, sinks.flatten(1)[..., None])
        joined = join(own, Part(*map(self.work.scatter, trunk)))
        split = joined.to(query.dtype).reshape(count, heads, groups, steps, -1)
        output = split.permute(0, 3, 1, 2, 4).flatten(2, 3)  # [n, T, H, D]
        return output[:, 0] if self.grid is None else self.grid.unpad(output)

    def _unseen(self, window: int | None, groups: int) -> tuple[Tensor, Tensor]:
        """What is not seen of the last keys [n, 1, G · T, ·], and of the trunk's last keys.

        Made once a step: layers of one kind share it.
        """
        if (window, groups) not in self._masks:
            self._masks[window, groups] = (
                self._unseen_causally(groups)
                if window is None
                else self._unseen_through(window, groups)
            )
        return self._masks[window, groups]

    def _unseen_causally(self, groups: int) -> tuple[Tensor, Tensor]:
        columns = torch.arange(self.seen_by_all, self.width, device=self.reach.device)
        own = columns > self.reach[..., None]
        return _for_groups(own, groups), self.work.unseen()[:, None, None]

    def _unseen_through(self, window: int, groups: int) -> tuple[Tensor, Tensor]:
        trunks, trunk = self.work.trunks, self.work.trunk
        roots = trunks.depths[trunk][:, None]
        queries = (roots + self.reach)[..., None]
        device = roots.device
        own = sees(window, queries, (roots + torch.arange(self.width, device=device))[:, None])
        padding = trunks.unseen[trunk][:, None]
        seen = sees(window, queries, torch.arange(padding.shape[-1], device=device)) & ~padding
        return _for_groups(~own, groups), self.work.gather(_for_groups(~seen, groups))


def _for_groups(mask: Tensor, groups: int) -> Tensor:
    """[n, T, M] to [n, 1, G · T, M]."""
    return mask[:, None, None].expand(-1, -1, groups, -1, -1).flatten(2, 3)
