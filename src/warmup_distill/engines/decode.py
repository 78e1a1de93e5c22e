"""Drawing tokens one at a time from a model, branches of a tree side by side.

No step waits for the device: rows are looked at every few steps, and what was drawn after an end is
dropped, so the records are those of a look at every step.

Shape letters: n branch at work, T step since the last look.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from warmup_distill.engines.pace import pace_of
from warmup_distill.engines.rows import Row
from warmup_distill.engines.steps import Steps
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.grow import TokenTree
from warmup_distill.tree.packed import require_finite


def decode(
    tree: TokenTree,
    rows: dict[int, Row],
    temperature: float,
    advance: Callable[[int], object] = lambda tokens: None,
) -> None:
    """Complete rows in place, each on the branch of its number; finished ones leave at a look.

    Args:
        advance: called with the number of tokens just drawn.

    Raises:
        NumbersError: a log-probability is not finite.
    """
    if not rows:
        return
    decoding = _Decoding(tree, rows, temperature)
    advance(decoding.begin())
    while decoding.going:
        advance(decoding.go_on())
    decoding.end()


class _Decoding:
    """Rows on their branches, from one look to the next."""

    def __init__(self, tree: TokenTree, rows: dict[int, Row], temperature: float) -> None:
        self.tree, self.rows, self.temperature = tree, rows, temperature
        self.pace = pace_of(tree.model.model, list(rows.values()))
        self._bring(list(rows))
        self.before = dict(zip(self.order, tree.lengths(), strict=True))

    def _bring(self, branches: Sequence[int]) -> None:
        self.order = self.tree.bring(branches)
        rows = [self.rows[branch] for branch in self.order]
        self.steps = Steps(self.tree, rows, self.pace.looks_every, self.temperature)
        self.width = 0

    @property
    def going(self) -> list[int]:
        """The branches whose rows are not complete."""
        vocabulary = self.tree.model.vocabulary
        return [branch for branch in self.order if not self.rows[branch].finished(vocabulary)]

    def begin(self) -> int:
        """Draw the first token of each row from what is known; returns how many tokens that is."""
        self.steps.load(1)
        self.steps.draw(self.tree.tips())
        return self._look(1)

    def go_on(self) -> int:
        """Draw until the next look; returns how many tokens were not dropped."""
        going = self.going
        if self.pace.leave(len(going), len(self.order)):
            self._bring(going)
        count = self.pace.steps([self.rows[branch] for branch in going])
        self._widen(max(map(self._length, going)) + count)
        self.steps.load(count)
        self.pace.run(self.steps.step, count)
        self.tree.count(count)
        return self._look(count)

    def _widen(self, tokens: int) -> None:
        """Let branches have so many tokens."""
        width = self.pace.width(tokens)
        if width != self.width:
            self.tree.widen(width)
            self.pace.renew()
            self.width = width

    def _look(self, count: int) -> int:
        """Give rows what was drawn for them; returns how many tokens were not dropped."""
        return _take(self.steps.rows, *self.steps.drawn(count), self.tree.model.vocabulary)

    def end(self) -> None:
        """Cut off what was drawn after the ends."""
        self.tree.cut({branch: self._length(branch) for branch in self.rows})

    def _length(self, branch: int) -> int:
        """Tokens that the tree has of a row: all but the one drawn last."""
        return self.before[branch] + len(self.rows[branch].ids) - 1


def _take(rows: Sequence[Row], tokens: Tensor, logprobs: Tensor, vocabulary: Vocabulary) -> int:
    values = logprobs.cpu()
    drawn = zip(tokens.tolist(), values.tolist(), strict=True)
    counts = [row.take(*each, vocabulary) for row, each in zip(rows, drawn, strict=True)]
    kept = torch.arange(values.shape[1]) < torch.tensor(counts)[:, None]
    require_finite(values[kept])
    return sum(counts)
