"""Decode steps on tensors that stay where they are.

A step feeds the token drawn last, draws the next one and writes it down. It reads and writes
nothing else: which step it is stands in a tensor too. So every step is the same operations on the
same memory, waits for nothing, and can be recorded (`capture.py`).

Shape letters: n row, T step since the last look, E width of the states.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from warmup_distill.engines.picking import draw_tokens
from warmup_distill.engines.randomness import keys_of, uniforms
from warmup_distill.engines.rows import Row, banned_of
from warmup_distill.tree.grow import TokenTree


class Steps:
    """The steps of some rows, until others take their places.

    Args:
        tree: with the rows' branches at work.
        rows: in the order of the branches.
        looks_every: steps between two looks, at the most.
        temperature: of the draw; 0 is greedy.
    """

    def __init__(
        self, tree: TokenTree, rows: Sequence[Row], looks_every: int, temperature: float
    ) -> None:
        device, shape = tree.model.device, (looks_every, len(rows))
        self.tree, self.rows, self.temperature = tree, rows, temperature
        last = [row.ids[-1] if row.ids else 0 for row in rows]
        self._keys = keys_of([row.stream for row in rows], device)
        self._last = torch.tensor(last, device=device)
        self._at = torch.zeros(1, dtype=torch.long, device=device)
        self._numbers = torch.zeros(shape, dtype=torch.double, device=device)
        self._tokens = torch.zeros(shape, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(shape, device=device)
        self._banned: list[tuple[int, int]] = []

    def load(self, steps: int) -> None:
        """Get ready for so many steps, which see all of the rows as they are now."""
        device = self._at.device
        places = torch.tensor([len(row.ids) for row in self.rows], device=device)
        later = torch.arange(steps, device=device)[:, None]
        self._numbers[:steps] = uniforms(self._keys, places + later)
        self._at.zero_()
        self._banned = banned_of(self.rows)

    def draw(self, hidden: Tensor) -> None:
        """The next token of each row, after states [n, E]."""
        logits = self.tree.model.logits(hidden, banned=-torch.inf)  # drawn at no temperature
        numbers = self._numbers.index_select(0, self._at).squeeze(0)
        tokens, logprobs = draw_tokens(logits, numbers, self._banned, self.temperature)
        self._last.copy_(tokens)
        self._tokens.index_copy_(0, self._at, tokens[None])
        self._logprobs.index_copy_(0, self._at, logprobs[None])
        self._at += 1

    def step(self) -> None:
        """Feed what was drawn last, and draw again."""
        self.draw(self.tree.step(self._last))

    def drawn(self, steps: int) -> tuple[Tensor, Tensor]:
        """Tokens [n, T] and their log-probabilities [n, T] of the steps since `load`."""
        return self._tokens[:steps].T, self._logprobs[:steps].T
