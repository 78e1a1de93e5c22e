"""Sequences packed end to end into one row; each attends to itself alone.

Shape letters: S token of the packed row, P sequence, W place in the longest sequence, H query head,
K key head, D head dimension.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from warmup_distill.tree.rules import Rules, attention, sees

IN_A_ROW = ("input_ids", "targets", "predictors")
"""What a packed row has of each token; the rest is of each sequence."""
PADDING = 1.5
"""Sequences attend side by side up to so many times the length of the shortest of them."""


class Pack:
    """The layout of plain sequences: one trunk each, no branches.

    Only attention sees padding, and little of it; every other layer runs on the packed row.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = lengths
        self.grid = Grid(lengths, device)
        self.positions = self.grid.places
        self.longest = max(lengths)
        groups = alike(lengths, PADDING)
        self._groups = [Grid(lengths, device, one) for one in groups] if len(groups) > 1 else []
        if self._groups:
            order = torch.cat([group.rows[group.cells] for group in self._groups])
            self._back = order.argsort()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        """See `Layout.attend`. Padding is at the right, where no real token sees it."""
        if not self._groups:
            return _attend(self.grid, query, key, value, rules)
        outputs = [_attend(group, query, key, value, rules) for group in self._groups]
        return torch.cat(outputs).index_select(0, self._back)


def _attend(grid: "Grid", query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
    query, key, value = (grid.pad(rows).transpose(1, 2) for rows in (query, key, value))
    mask = None
    if rules.window is not None:
        places = torch.arange(grid.shape[1], device=query.device)
        mask = sees(rules.window, places[:, None], places)
    return grid.unpad(attention(query, key, value, rules, mask).transpose(1, 2))


def alike(lengths: Sequence[int], factor: float) -> list[list[int]]:
    """Numbers of sequences in groups; none is longer than `factor` times the shortest of its."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if not groups or lengths[index] > factor * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(index)
    return groups


class Grid:
    """Where the tokens of some sequences of a packed row stand in a rectangle [P, W], and back.

    Args:
        lengths: of all sequences in the row.
        device: where the row is.
        chosen: which sequences; all if absent.
    """

    def __init__(
        self, lengths: Sequence[int], device: torch.device, chosen: Sequence[int] | None = None
    ) -> None:
        some = torch.arange(len(lengths)) if chosen is None else torch.tensor(chosen)
        every = torch.tensor(lengths)
        counts, starts = every[some], (every.cumsum(0) - every)[some]
        width = int(counts.max())
        real = torch.arange(width) < counts[:, None]
        cells = real.flatten().nonzero().squeeze(-1)
        self.shape = len(some), width
        self.full = chosen is None and bool(real.all())
        self.real = real.to(device)
        self.rows = torch.where(real, starts[:, None] + torch.arange(width), 0).flatten().to(device)
        self.cells = cells.to(device)
        self.places = (cells % width).to(device)
        """[S], the place of each token in its own sequence."""
        self.ends = (starts + counts - 1).to(device)
        """[P], the last token of each sequence in the packed row."""

    def pad(self, packed: Tensor) -> Tensor:
        """[S, ...] to [P, W, ...]; padded cells repeat the first token of the row."""
        padded = packed if self.full else packed.index_select(0, self.rows)
        return padded.reshape(*self.shape, *packed.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """[P, W, ...] to [S, ...], in the order of the sequences chosen."""
        flat = padded.reshape(-1, *padded.shape[2:])
        return flat if self.full else flat.index_select(0, self.cells)


def pack_completions(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    to_the_end: bool = False,
) -> dict[str, Tensor]:
    """Prompts and completions end to end in one row.

    Args:
        to_the_end: keep the last token of each sequence, which predicts nothing and costs a step,
            but which a model sees whose numbers hang on the length of the text.

    Returns:
        input_ids [S]; lengths [P] of the sequences, prompt_lengths and completion_lengths [P] of
        what they are made of; for each completion token its id `targets` [N] and the place in the
        row that predicts it, `predictors` [N].
    """
    row: list[int] = []
    lengths: list[int] = []
    targets: list[int] = []
    predictors: list[int] = []
    for prompt, completion in zip(prompts, completions, strict=True):
        first = len(row) + len(prompt) - 1
        predictors += range(first, first + len(completion))
        targets += completion
        sequence = [*prompt, *completion] if to_the_end else [*prompt, *completion[:-1]]
        row += sequence
        lengths.append(len(sequence))
    return {
        "input_ids": torch.tensor(row),
        "lengths": torch.tensor(lengths),
        "prompt_lengths": torch.tensor([len(prompt) for prompt in prompts]),
        "completion_lengths": torch.tensor([len(completion) for completion in completions]),
        "targets": torch.tensor(targets),
        "predictors": torch.tensor(predictors),
    }


def some_of(packed: Mapping[str, Tensor], chosen: Sequence[int]) -> dict[str, Tensor]:
    """What `pack_completions` would give for some of its sequences, with whatever else is there.

    Args:
        packed: what it gave for all, and values [P] of each sequence.
        chosen: their numbers.
    """
    counts, targets = packed["lengths"], packed["completion_lengths"]
    device = counts.device
    starts, firsts = counts.cumsum(0) - counts, targets.cumsum(0) - targets

    def spans(begin: Tensor, length: Tensor) -> Tensor:
        several = [torch.arange(int(length[i]), device=device) + begin[i] for i in chosen]
        return torch.cat(several)

    cells, numbers = spans(starts, counts), spans(firsts, targets)
    moved = torch.empty_like(packed["input_ids"])
    moved[cells] = torch.arange(len(cells), device=device)
    found = {name: values[list(chosen)] for name, values in packed.items() if name not in IN_A_ROW}
    return found | {
        "input_ids": packed["input_ids"][cells],
        "targets": packed["targets"][numbers],
        "predictors": moved[packed["predictors"][numbers]],
    }


def batches_by_size(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Numbers of items, those of like size together, in batches of `room` at the most.

    An item larger than that is alone.
    """
    batches: list[list[int]] = []
    left = 0
    for index in sorted(range(len(sizes)), key=lambda i: (sizes[i], i)):
        if not batches or sizes[index] > left:
            batches.append([])
            left = room
        batches[-1].append(index)
        left -= sizes[index]
    return batches
