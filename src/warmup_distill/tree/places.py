"""Where branches and trunks stand: those at work first, in the rectangle of their trunks.

Shape letters: P trunk, W token of the longest trunk, n branch at work, K key head, M query, U and L
key of trunk and of branch, D head dimension, E width of the hidden states, X any.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.pack import Pack
from warmup_distill.tree.rules import Rules


class Shelf:
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
        device = self._tensors[0].device
        there, here = (torch.tensor(p, device=device) for p in (leaving + coming, coming + leaving))
        for tensor in self._tensors:
            tensor[there] = tensor[here]


class Trunks(Pack):
    """Prompts, run once; their keys and values [P, K, W, D] stay."""

    def __init__(self, model: TreeModel, prompts: Sequence[Sequence[int]]) -> None:
        lengths = [len(prompt) for prompt in prompts]
        super().__init__(lengths, model.device)
        self.shelf = Shelf(len(prompts))
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


class Work:
    """Branches at work, by the trunks they grow from: a rectangle [trunk, slot].

    What is known of their lengths without asking the device is kept beside them.
    """

    def __init__(self, owners: Sequence[int], lengths: Tensor, trunks: Trunks) -> None:
        used = sorted(set(owners))
        trunks.shelf.bring(used)
        place_of = {trunk: place for place, trunk in enumerate(trunks.shelf.at)}
        places = [place_of[owner] for owner in owners]
        self.trunks, self.lengths = trunks, lengths
        self.shape, cells = _rectangle(places, len(used))
        device = lengths.device
        self.trunk = torch.tensor(places, device=device)
        self.rows = torch.arange(len(owners), device=device)
        self.roots = trunks.depths[self.trunk]
        self.full = min(trunks.lengths[trunk] for trunk in used)
        """Tokens that every trunk at work has."""
        self._cells = torch.tensor(cells, device=device)
        self._regular = cells == list(range(self.shape[0] * self.shape[1]))
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._orders: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._measure()

    def _measure(self) -> None:
        self.shortest, self.longest = int(self.lengths.min()), int(self.lengths.max())
        self.deepest = int((self.roots + self.lengths).max())

    @property
    def even(self) -> bool:
        """Whether all branches have as many tokens."""
        return self.shortest == self.longest

    def grow(self, counts: Tensor | None) -> None:
        """Count tokens that came to each branch: one each if absent."""
        if counts is None:
            self.lengths += 1
            self.shortest, self.longest = self.shortest + 1, self.longest + 1
            self.deepest += 1
        else:
            self.lengths += counts
            self._measure()

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values [trunk, K, W, D] of the trunks at work."""
        if layer not in self._layers:
            keys, values = self.trunks.layers[layer]
            self._layers[layer] = keys[: self.shape[0]], values[: self.shape[0]]
        return self._layers[layer]

    def unseen(self) -> Tensor:
        """[trunk, W − full], what is padding beyond `full`."""
        return self.trunks.unseen[: self.shape[0], self.full :]

    def gather(self, rows: Tensor) -> Tensor:
        """[n, K, M, X] to [trunk, K, slot · M, X]; empty slots repeat some row."""
        kept, many, size = rows.shape[1:]
        if self._regular:
            return rows.reshape(*self.shape, kept, many, size).transpose(1, 2).flatten(2, 3)
        cells = rows.flatten(0, 2).index_select(0, self._order(kept, many)[0])
        return cells.view(self.shape[0], kept, -1, size)

    def scatter(self, grid: Tensor) -> Tensor:
        """The inverse."""
        (trunks, slots), (_, kept, queries, size) = self.shape, grid.shape
        many = queries // slots
        if self._regular:
            return grid.view(trunks, kept, slots, many, size).transpose(1, 2).flatten(0, 1)
        rows = grid.flatten(0, 2).index_select(0, self._order(kept, many)[1])
        return rows.view(-1, kept, many, size)

    def _order(self, kept: int, many: int) -> tuple[Tensor, Tensor]:
        """Which of [n · K · M] is in each of [trunk · K · slot · M], and the inverse; made once."""
        if (kept, many) not in self._orders:
            count, (trunks, slots) = len(self.rows), self.shape
            cells = torch.arange(trunks * kept * slots * many, device=self.rows.device)
            cells = cells.view(trunks, kept, slots, many).transpose(1, 2).flatten(0, 1)
            back = cells.index_select(0, self._cells).flatten()
            there = torch.zeros_like(cells).flatten()
            there[back] = torch.arange(count * kept * many, device=self.rows.device)
            self._orders[kept, many] = there, back
        return self._orders[kept, many]


def _rectangle(places: Sequence[int], count: int) -> tuple[tuple[int, int], list[int]]:
    """A row of slots for each of so many trunks: its shape, and the cell of each branch."""
    taken = [0] * count
    slots = []
    for place in places:
        slots.append(taken[place])
        taken[place] += 1
    width = max(taken)
    cells = [place * width + slot for place, slot in zip(places, slots, strict=True)]
    return (count, width), cells
