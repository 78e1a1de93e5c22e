"""Preference pairs as trees: prompts once, what two completions share once, then both endings.

Shape letters: S token of the packed row, P prompt, B pair, N scored token, W token of the longest
prompt, L token of the longest branch, H query head, K key head, D head dimension.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from warmup_distill.tree.pack import Grid, Pack, pack_completions
from warmup_distill.tree.rules import Rules, attention, sees

PREFIX, CHOSEN, REJECTED = range(3)
"""The parts of a branch, in the order in which they stand in it."""


class PairTree:
    """The layout of some pairs: prompts first, then for each pair prefix, chosen and rejected end.

    Args:
        prompts: lengths [P].
        owners: [B], for each pair the number of its prompt.
        parts: [B, 3], tokens of prefix, chosen and rejected ending that run.
    """

    def __init__(self, prompts: Tensor, owners: Tensor, parts: Tensor) -> None:
        device = owners.device
        self.trunk = Pack(prompts.tolist(), device)
        self.owners = owners
        self.split = int(prompts.sum())
        self.branch = Grid(parts.sum(-1).tolist(), device) if int(parts.sum()) else None
        self.positions, self.longest = self.trunk.positions, self.trunk.longest
        if self.branch is not None:
            self._add_branches(prompts, parts, self.branch)

    def _add_branches(self, prompts: Tensor, parts: Tensor, branch: Grid) -> None:
        places = torch.arange(branch.shape[1], device=self.owners.device)
        ends = parts.cumsum(-1)
        part = (places[None, :, None] >= ends[:, None]).sum(-1).clamp(max=REJECTED)  # [B, L]
        # Both endings begin where the prefix ends: the rejected one is as deep as the chosen one.
        depths = places - torch.where(part == REJECTED, parts[:, CHOSEN, None], 0)
        depths = prompts[self.owners][:, None] + depths
        self.positions = torch.cat([self.positions, branch.unpad(depths)])
        self.longest = int(self.positions.max()) + 1
        self.depths = depths  # [B, L]
        earlier = places[None, :] <= places[:, None]
        related = (part[:, None, :] == PREFIX) | (part[:, None, :] == part[:, :, None])
        trunk = self.trunk.grid.real[self.owners][:, None].expand(-1, branch.shape[1], -1)
        self.mask = torch.cat([trunk, earlier & related], dim=-1)[:, None]  # [B, 1, L, W + L]

    def _mask(self, window: int | None) -> Tensor:
        """What branches see through a window: by depth, since a branch has gaps between parts."""
        if window is None:
            return self.mask
        trunk = torch.arange(self.trunk.grid.shape[1], device=self.depths.device)
        keys = torch.cat([trunk.expand(len(self.depths), -1), self.depths], dim=-1)  # [B, W + L]
        return self.mask & sees(window, self.depths[:, None, :, None], keys[:, None, None])

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        """See `Layout.attend`: prompts causally, branches to their prompt and to themselves."""
        at, grid = self.split, self.trunk.grid
        trunk = self.trunk.attend(layer, query[:at], key[:at], value[:at], rules)
        if self.branch is None:
            return trunk
        keys, values = (
            torch.cat([grid.pad(rows[:at])[self.owners], self.branch.pad(rows[at:])], dim=1)
            for rows in (key, value)
        )
        output = attention(
            self.branch.pad(query[at:]).transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            rules,
            self._mask(rules.window),
        )
        return torch.cat([trunk, self.branch.unpad(output.transpose(1, 2))])


def plant(pairs: Sequence[dict[str, Any]], *, keep_prefix: bool) -> dict[str, Tensor]:
    """Pairs as one packed row, with every token that a loss reads.

    Args:
        pairs: fields of `records.Pair`; neighbours with the same prompt share it.
        keep_prefix: also score what chosen and rejected share.

    Returns:
        input_ids [S]; prompts [P], owners [B] and parts [B, 3] for `PairTree`; for each scored
        token its id `targets` [N], the place in the row that predicts it `predictors` [N], its
        pair `pair` [N] and its part `part` [N].
    """
    trunks: list[list[int]] = []
    owners = []
    for pair in pairs:
        if not trunks or trunks[-1] != pair["prompt_ids"]:
            trunks.append(pair["prompt_ids"])
        owners.append(len(trunks) - 1)
    row = [token for trunk in trunks for token in trunk]
    ends = torch.tensor([len(trunk) for trunk in trunks]).cumsum(0).tolist()
    parts, scored = [], []
    for number, (pair, owner) in enumerate(zip(pairs, owners, strict=True)):
        cut = pair["mismatch_index"]
        prefix = pair["chosen_ids"][:cut]
        endings = pair["chosen_ids"][cut:], pair["rejected_ids"][cut:]
        start, last = len(row), ends[owner] - 1
        row += prefix
        if keep_prefix:
            scored += _scored(prefix, last, start, number, PREFIX)
        if prefix:
            last = len(row) - 1
        for part, ending in zip((CHOSEN, REJECTED), endings, strict=True):
            scored += _scored(ending, last, len(row), number, part)
            row += ending[:-1]  # nothing follows the last token
        parts.append([len(prefix), *(len(ending) - 1 for ending in endings)])
    columns = torch.tensor(scored).unbind(-1)
    return {
        "input_ids": torch.tensor(row),
        "prompts": torch.tensor([len(trunk) for trunk in trunks]),
        "owners": torch.tensor(owners),
        "parts": torch.tensor(parts),
        **dict(zip(("targets", "predictors", "pair", "part"), columns, strict=True)),
    }


def plant_apart(
    pairs: Sequence[dict[str, Any]], *, keep_prefix: bool, to_the_end: bool = False
) -> dict[str, Tensor]:
    """Pairs as sequences end to end that share nothing, all chosen sides and then all rejected.

    Args:
        to_the_end: see `pack_completions`.

    Returns:
        As `plant`, with `lengths` [2B] for a `Pack` instead of prompts and parts.
    """
    sides = [pair["chosen_ids"] for pair in pairs] + [pair["rejected_ids"] for pair in pairs]
    packed = pack_completions(
        [pair["prompt_ids"] for pair in pairs] * 2, sides, to_the_end=to_the_end
    )
    cuts = [pair["mismatch_index"] for pair in pairs] * 2
    numbers = [[number] * len(side) for number, side in enumerate(sides)]
    parts = [
        [PREFIX] * cut + [CHOSEN if number < len(pairs) else REJECTED] * (len(side) - cut)
        for number, (side, cut) in enumerate(zip(sides, cuts, strict=True))
    ]
    pair, part = (torch.tensor(list(chain(*values))) for values in (numbers, parts))
    # The prefix is scored on the chosen side alone, where `plant` has it too.
    kept = (part != PREFIX) | ((pair < len(pairs)) & keep_prefix)
    return {
        "input_ids": packed["input_ids"],
        "lengths": packed["lengths"],
        "owners": torch.arange(len(pairs)),
        "targets": packed["targets"][kept],
        "predictors": packed["predictors"][kept],
        "pair": pair[kept] % len(pairs),
        "part": part[kept],
    }


def split_to_rows(pairs: Sequence[dict[str, Any]], room: int) -> list[list[dict[str, Any]]]:
    """Pairs in their order, in groups for `plant` of `room` tokens at the most.

    In attention every branch is as long as the longest of its row, and counts so. A pair larger
    than the room is alone.
    """
    rows: list[list[dict[str, Any]]] = []
    trunks = longest = 0
    for pair in pairs:
        prompt, branch = pair["prompt_ids"], _branch_length(pair)
        shared = bool(rows) and rows[-1][-1]["prompt_ids"] == prompt
        grown = trunks + (0 if shared else len(prompt))
        wide = max(longest, branch)
        if rows and grown + wide * (len(rows[-1]) + 1) <= room:
            rows[-1].append(pair)
            trunks, longest = grown, wide
        else:
            rows.append([pair])
            trunks, longest = len(prompt), branch
    return rows


def _branch_length(pair: dict[str, Any]) -> int:
    """Tokens of prefix and both endings that run."""
    sides: int = len(pair["chosen_ids"]) + len(pair["rejected_ids"])
    return sides - int(pair["mismatch_index"]) - 2


def _scored(
    ids: Sequence[int], before: int, start: int, pair: int, part: int
) -> list[tuple[int, int, int, int]]:
    """For each id: itself, the place that predicts it, and whose it is."""
    places = [before, *range(start, start + len(ids) - 1)]
    return [(id_, place, pair, part) for id_, place in zip(ids, places, strict=False)]
