"""Where branches and trunks stand: those at work first, in the rectangle of their trunks.

Shape letters: P trunk, W token of the longest trunk, n branch at work, K key head, M query, D head
dimension, E width of the hidden states, X any.
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

    Args:
        owners: for each branch at work the number of its trunk.
        trunks: those at work are brought to the first places.
    """

    def __init__(self, owners: Sequence[int], trunks: Trunks) -> None:
        used = sorted(set(owners))
        trunks.shelf.bring(used)
        place_of = {trunk: place for place, trunk in enumerate(trunks.shelf.at)}
        places = [place_of[owner] for owner in owners]
        device = trunks.depths.device
        self.trunks = trunks
        self.depths = [trunks.lengths[owner] for owner in owners]
        """[n], tokens of each branch's trunk: for Python, and for the device."""
        self.trunk = torch.tensor(places, device=device)
        self.roots = trunks.depths[self.trunk]
        self.full, self.wide = min(self.depths), max(self.depths)
        """Tokens that every trunk at work has, and that any has."""
        self.padding = trunks.unseen[self.trunk, self.full : self.wide]
        """[n, wide − full]"""
        self.rows = torch.arange(len(owners), device=device)
        self.shape, cells = _rectangle(places, len(used))
        self._regular = cells == list(range(self.shape[0] * self.shape[1]))
        self._cells = torch.tensor(cells, device=device)
        self._orders: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def gather(self, rows: Tensor) -> Tensor:
        """[n · K, M, X] to [trunk · K, slot · M, X]; empty slots repeat some row."""
        (trunks, slots), (_, many, size) = self.shape, rows.shape
        heads = len(rows) // len(self.rows)
        if self._regular:
            grid = rows.view(trunks, slots, heads, many, size).transpose(1, 2)
        else:
            grid = rows.flatten(0, 1).index_select(0, self._order(heads, many)[0])
        return grid.reshape(trunks * heads, slots * many, size)

    def scatter(self, grid: Tensor) -> Tensor:
        """The inverse."""
        (trunks, slots), (_, queries, size) = self.shape, grid.shape
        heads, many = len(grid) // trunks, queries // slots
        if self._regular:
            rows = grid.view(trunks, heads, slots, many, size).transpose(1, 2)
        else:
            rows = grid.flatten(0, 1).index_select(0, self._order(heads, many)[1])
        return rows.reshape(-1, many, size)

    def _order(self, heads: int, many: int) -> tuple[Tensor, Tensor]:
        """Which of [n · K · M] is in each of [trunk · K · slot · M], and the inverse; made once."""
        if (heads, many) not in self._orders:
            trunks, slots = self.shape
            cells = torch.arange(trunks * heads * slots * many, device=self.rows.device)
            cells = cells.view(trunks, heads, slots, many).transpose(1, 2).flatten(0, 1)
            back = cells.index_select(0, self._cells).flatten()
            there = torch.zeros_like(cells).flatten()
            there[back] = torch.arange(len(back), device=self.rows.device)
            self._orders[heads, many] = there, back
        return self._orders[heads, many]


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
