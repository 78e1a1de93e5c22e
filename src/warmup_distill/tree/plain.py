"""The plain way to run a model: every sequence whole and by itself, by the model's own forward.

Slower than the token tree, and exact for every causal language model.

Shape letters: S token of the packed row, P sequence, W place in the longest sequence, E width of
the states, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.attention import Layout
from warmup_distill.tree.heads import Head
from warmup_distill.tree.pack import PADDING, Grid, Pack, alike
from warmup_distill.tree.packed import PackedModel


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What a model allows, as found out by trying it."""

    pads: bool = True
    """Its numbers do not change with padding after the last token; length-dependent rotary
    positions do."""
    caches: bool = True
    """`generate` with the model's cache gives the numbers of a whole forward."""
    splits: bool = True
    """Body and head, as we know them, give the logits of the whole model."""


class PlainModel(PackedModel):
    """Runs any causal language model on the sequences of a `Pack`, apart.

    Args:
        model: a causal language model.
        vocabulary: logits are cut to its size.
        habits: what is allowed with it. Where it does not split, its states are its logits.
    """

    shares = False

    def __init__(self, model: PreTrainedModel, vocabulary: Vocabulary, habits: Habits) -> None:
        super().__init__(model, vocabulary)
        self.habits = habits
        self.by_length = not habits.pads
        if not habits.splits:
            self.head = Head(None, model.config, vocabulary)

    def hidden(self, ids: Tensor, layout: Layout) -> Tensor:
        """See `PackedModel.hidden`; padding stands at the right, where no real token sees it."""
        assert isinstance(layout, Pack)
        groups = alike(layout.lengths, PADDING if self.habits.pads else 1.0)
        grids = [Grid(layout.lengths, ids.device, group) for group in groups]
        states = []
        for grid in grids:
            self.start_anew()
            states.append(grid.unpad(self._states(grid.pad(ids))))
        order = torch.cat([grid.rows[grid.cells] for grid in grids]).argsort()
        return torch.cat(states).index_select(0, order)

    @torch.no_grad()
    def start_anew(self) -> None:
        """Make rotary positions forget the longest text so far, where they depend on lengths.

        `transformers` keeps the frequencies of the longest text until a short one comes.
        """
        if not self.habits.pads:
            self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.device))

    def _states(self, ids: Tensor) -> Tensor:
        """[P, W] to [P, W, E], or to logits [P, W, V] where the model does not split."""
        if self.habits.splits:
            states: Tensor = self._body(input_ids=ids, use_cache=False).last_hidden_state
        else:
            states = self.model(input_ids=ids, use_cache=False).logits[..., : self.vocabulary.size]
        return states.to(self.device)
