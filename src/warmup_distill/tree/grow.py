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
from warmup_distill.tree.pack import Grid
from warmup_distill.tree.places import Shelf, Trunks, Work
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
        self._trunks = Trunks(model, prompts)
        self._shelf = Shelf(len(owners))
        self._owners = list(owners)
        lengths = torch.zeros(len(owners), dtype=torch.long, device=model.device)
        self._lengths = self._shelf.keep(lengths)
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._hidden: Tensor | None = None
        self.bring(range(len(owners)))

    def bring(self, branches: Sequence[int]) -> list[int]:
        """Put these branches to work; returns them in the order of their places."""
        self._shelf.bring(branches)
        order = self._shelf.at[: len(branches)]
        owners = [self._owners[branch] for branch in order]
        self._work = Work(owners, self._lengths[: len(order)], self._trunks)
        return order

    def lengths(self) -> list[int]:
        """Tokens of each branch at work, in the order of their places."""
        found: list[int] = self._work.lengths.tolist()
        return found

    def cut(self, lengths: dict[int, int]) -> None:
        """Cut branches back to some of their tokens; `bring` has to follow."""
        places = [place for place, branch in enumerate(self._shelf.at) if branch in lengths]
        kept = [lengths[self._shelf.at[place]] for place in places]
        where, values = (torch.tensor(n, device=self._lengths.device) for n in (places, kept))
        self._lengths[where.long()] = values.long()

    def tips(self) -> Tensor:
        """Hidden states [n, E] after the last token of each branch at work."""
        trunk = self._trunks.hidden[self._work.trunk]
        if self._hidden is None:
            return trunk
        lengths = self._work.lengths
        branch = self._hidden[self._work.rows, (lengths - 1).clamp(min=0)]
        return torch.where(lengths[:, None] > 0, branch, trunk)

    def feed(self, ids: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Grow the branches at work and return the hidden states [S, E] after each new token.

        With one token each nothing here waits for the device.

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
        self._work.grow(step.counts)
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


class _Step:
    """The layout of one `feed`: new tokens see their trunk, and their branch up to themselves."""

    def __init__(self, tree: TokenTree, counts: Sequence[int] | None) -> None:
        self.tree, self.work = tree, tree._work
        work, lengths = self.work, self.work.lengths
        self.counts: Tensor | None = None
        self.grid: Grid | None = None
        self.rows, self.places = work.rows, lengths
        self.positions = work.roots + lengths
        self.width, self.longest = work.longest + 1, work.deepest + 1
        reach = self.places
        if counts is not None:
            self.grid = Grid(counts, lengths.device)
            self.counts = torch.tensor(counts, device=lengths.device)
            self.rows = work.rows.repeat_interleave(self.counts)
            self.places = lengths[self.rows] + self.grid.places
            self.positions = work.roots[self.rows] + self.places
            self.width = int(self.places.max()) + 1
            self.longest = int(self.positions.max()) + 1
            reach = self.grid.pad(self.places)
        self.reach = reach.view(len(lengths), -1)  # [n, T]
        self.seen_by_all = work.shortest + 1
        self._places: dict[int, Tensor] = {}
        self._masks: dict[tuple[int | None, int], tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        """See `Layout.attend`: one softmax over trunk and branch, whose products are apart."""
        keys, values = self.tree.layer(layer, key, value)
        self._keep(keys, key)
        self._keep(values, value)
        count, heads = len(self.work.rows), keys.shape[1]
        rows = self._by_head(query * rules.scale, heads)
        unseen, unseen_trunk = self._unseen(rules.window, query.shape[1] // heads)
        trunk_keys, trunk_values = self.work.layer(layer)
        own_keys, own_values = keys[:count, :, : self.width], values[:count, :, : self.width]
        trunk = _logits(self.work.gather(rows), trunk_keys, unseen_trunk, rules)
        own = _logits(rows, own_keys, unseen, rules)
        both = torch.cat([self.work.scatter(trunk), own], dim=-1)  # [n, K, G · T, W + L]
        weights = _weights(both, rules).to(query.dtype)
        of_trunk, of_own = weights[..., : trunk.shape[-1]], weights[..., trunk.shape[-1] :]
        from_trunk = self.work.scatter(self.work.gather(of_trunk) @ trunk_values)
        return self._by_token(from_trunk + of_own @ own_values)

    def _by_head(self, query: Tensor, heads: int) -> Tensor:
        """[S, H, D] to [n, K, G · T, D]."""
        if self.grid is None:
            return query.reshape(len(query), heads, -1, query.shape[-1])
        grid = self.grid.pad(query)
        split = grid.reshape(*grid.shape[:2], heads, -1, grid.shape[-1])  # [n, T, K, G, D]
        return split.permute(0, 2, 3, 1, 4).flatten(2, 3)

    def _by_token(self, output: Tensor) -> Tensor:
        """The inverse."""
        if self.grid is None:
            return output.flatten(1, 2)
        steps = self.grid.shape[1]
        split = output.reshape(*output.shape[:2], -1, steps, output.shape[-1])
        return self.grid.unpad(split.permute(0, 3, 1, 2, 4).flatten(2, 3))

    def _keep(self, kept: Tensor, new: Tensor) -> None:
        """Write the new rows [S, K, D] of a layer into those that it keeps [B, K, T, D]."""
        if self.grid is None and self.work.even:
            kept[: len(new), :, self.width - 1] = new
        else:
            kept.view(-1, kept.shape[-1]).index_copy_(0, self._at(new.shape[1]), new.flatten(0, 1))

    def _at(self, heads: int) -> Tensor:
        """Where the new rows [S, K] stand in a layer's rows [B · K · T]; made once a step."""
        if heads not in self._places:
            numbers = self.rows[:, None] * heads + torch.arange(heads, device=self.rows.device)
            places = numbers * self.tree.capacity + self.places[:, None]
            self._places[heads] = places.flatten()
        return self._places[heads]

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


def _logits(query: Tensor, key: Tensor, unseen: Tensor, rules: Rules) -> Tensor:
    """Scaled queries [..., M, D] on keys [..., U, D]: [..., M, U] float32.

    `unseen` is about the last keys; those before are seen by all.
    """
    logits = rules.bend((query @ key.transpose(-1, -2)).float())
    if unseen.shape[-1]:
        logits[..., -unseen.shape[-1] :].masked_fill_(unseen, -torch.inf)
    return logits


def _weights(logits: Tensor, rules: Rules) -> Tensor:
    """The shares [..., K, G · T, U] of the keys; a sink takes one too, and has no value."""
    if rules.sinks is None:
        return logits.softmax(-1)
    heads, queries = logits.shape[-3:-1]
    sinks = rules.sinks.float().reshape(heads, -1)
    column = sinks.repeat_interleave(queries // sinks.shape[1], dim=1)[..., None]
    column = column.expand(*logits.shape[:-1], 1)
    return torch.cat([logits, column], dim=-1).softmax(-1)[..., :-1]
