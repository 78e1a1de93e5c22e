"""One pass over the branches at work: new tokens see their trunk and their branch so far.

What Python knows of a pass (`Reach`) holds for several; what differs between them is read from
tensors that stay where they are. So a pass with one token per branch is the same operations on the
same memory as the one before, and can be recorded.

Shape letters: B branch, n branch at work, T token of a branch, W and L key of trunk and of branch,
U either, S token of the packed row, H query head, K key head, G query heads per key head, D head
dimension; M = G · T, R = n · K.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from warmup_distill.tree.pack import Grid
from warmup_distill.tree.reach import Reach
from warmup_distill.tree.rules import Rules, sees


class Step:
    """The layout of one pass.

    Args:
        reach: of the branches at work.
        counts: new tokens of each, at least one; one each if absent. Then nothing waits for the
            device, and a branch that is full has its last token written over.
    """

    def __init__(self, reach: Reach, counts: Sequence[int] | None = None) -> None:
        work, lengths = reach.work, reach.lengths
        self.reach, self.longest = reach, reach.longest
        self.grid: Grid | None = None
        self.rows: Tensor | None = None
        if counts is None:
            self.places = queries = lengths.clamp(max=reach.capacity - 1)
            self.positions = work.roots + self.places
        else:
            self.grid = Grid(counts, lengths.device)
            self.rows = work.rows.repeat_interleave(torch.tensor(counts, device=lengths.device))
            self.places = lengths[self.rows] + self.grid.places
            self.positions = work.roots[self.rows] + self.places
            queries = self.grid.pad(self.places)
        self._queries = queries.view(len(lengths), -1, 1)  # [n, T, 1]
        self._at: dict[int, Tensor] = {}
        self._masks: dict[tuple[int | None, int, int], list[tuple[int, Tensor]]] = {}

    def at(self, heads: int) -> Tensor:
        """Where the new rows [S · K] stand in a layer's rows [B · K · T]; made once a pass."""
        if heads not in self._at:
            starts = self.reach.starts(heads)
            starts = starts if self.rows is None else starts[self.rows]
            self._at[heads] = (starts + self.places[:, None]).flatten()
        return self._at[heads]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        """See `Layout.attend`: one softmax over trunk and branch, whose products are apart."""
        work, views = self.reach.work, self.reach.views(layer)
        heads, groups = key.shape[1], query.shape[1] // key.shape[1]
        views.key_rows.index_copy_(0, self.at(heads), key.flatten(0, 1))
        views.value_rows.index_copy_(0, self.at(heads), value.flatten(0, 1))
        rows = self._by_head(query * rules.scale, heads)
        trunk = work.scatter(torch.bmm(work.gather(rows), views.trunk_keys))
        own = torch.bmm(rows, views.keys)
        logits = rules.bend(torch.cat([trunk, own], dim=-1).float())  # [R, M, W + L]
        for first, unseen in self._unseen(rules.window, heads, groups):
            logits.narrow(-1, first, unseen.shape[-1]).masked_fill_(unseen, -torch.inf)
        weights = _weights(logits, heads, rules).to(query.dtype)
        of_trunk, of_own = weights.split_with_sizes([work.wide, self.reach.width], dim=-1)
        output = work.scatter(torch.bmm(work.gather(of_trunk), views.trunk_values))
        return self._by_token(torch.baddbmm(output, of_own, views.values), heads)

    def _by_head(self, query: Tensor, heads: int) -> Tensor:
        """[S, H, D] to [R, M, D]."""
        if self.grid is None:
            return query.reshape(len(query) * heads, -1, query.shape[-1])
        grid = self.grid.pad(query)
        split = grid.view(*grid.shape[:2], heads, -1, grid.shape[-1])  # [n, T, K, G, D]
        return split.permute(0, 2, 3, 1, 4).flatten(2, 3).flatten(0, 1)

    def _by_token(self, output: Tensor, heads: int) -> Tensor:
        """The inverse."""
        if self.grid is None:
            return output.view(len(output) // heads, -1, output.shape[-1])
        count, steps = self.grid.shape
        split = output.view(count, heads, -1, steps, output.shape[-1])
        return self.grid.unpad(split.permute(0, 3, 1, 2, 4).flatten(2, 3))

    def _unseen(self, window: int | None, heads: int, groups: int) -> list[tuple[int, Tensor]]:
        """What is not seen [R, 1 or M, ·] of the keys from some place on.

        Made once a pass: layers of one kind share it.
        """
        if (window, heads, groups) not in self._masks:
            found = self._causally() if window is None else self._through(window)
            self._masks[window, heads, groups] = [
                (first, _for_heads(unseen, heads, groups))
                for first, unseen in found
                if unseen.shape[-1]
            ]
        return self._masks[window, heads, groups]

    def _causally(self) -> list[tuple[int, Tensor]]:
        reach, work = self.reach, self.reach.work
        own = reach.columns[reach.seen_by_all :] > self._queries
        return [(work.full, work.padding[:, None]), (work.wide + reach.seen_by_all, own)]

    def _through(self, window: int) -> list[tuple[int, Tensor]]:
        work, columns = self.reach.work, self.reach.columns
        roots = work.roots[:, None, None]
        queries = roots + self._queries
        trunk = sees(window, queries, torch.arange(work.wide, device=columns.device))
        own = sees(window, queries, roots + columns)
        unseen = ~torch.cat([trunk, own], dim=-1)
        unseen[..., work.full : work.wide] |= work.padding[:, None]
        return [(0, unseen)]


def _for_heads(mask: Tensor, heads: int, groups: int) -> Tensor:
    """[n, T, U] to [R, M, U]; what is the same for all tokens of a branch stays [R, 1, U]."""
    count, steps, keys = mask.shape
    groups = 1 if steps == 1 else groups
    spread = mask[:, None, None].expand(count, heads, groups, steps, keys)
    return spread.reshape(count * heads, groups * steps, keys)


def _weights(logits: Tensor, heads: int, rules: Rules) -> Tensor:
    """The shares [R, M, U] of the keys; a sink takes one too, and has no value."""
    if rules.sinks is None:
        return logits.softmax(-1)
    rows, queries, keys = logits.shape
    sinks = rules.sinks.float().view(heads, -1)
    column = sinks.repeat_interleave(queries // sinks.shape[1], dim=1).repeat(rows // heads, 1)
    both = torch.cat([logits, column[..., None]], dim=-1)
    return both.softmax(-1)[..., :keys]
