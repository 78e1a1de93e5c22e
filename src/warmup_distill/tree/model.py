"""The token tree's way to run a model: what sequences share is computed once.

Shape letters: S token of the packed row, E width of the hidden states.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.attention import Layout, following_layouts
from warmup_distill.tree.packed import PackedModel
from warmup_distill.tree.rules import Rules
from warmup_distill.tree.windows import find_windows


class TreeModel(PackedModel):
    """Runs a model whose layers all use `transformers`' attention, which follows the layout.

    Raises:
        ModelError: a layer attends otherwise, or does more than is known here.
    """

    shares = True
    by_length = False

    def __init__(self, model: PreTrainedModel, vocabulary: Vocabulary) -> None:
        super().__init__(model, vocabulary)
        self._windows = find_windows(model, self._body)

    def _ready(self) -> AbstractContextManager[None]:
        return following_layouts(self.model)

    def hidden(self, ids: Tensor, layout: Layout) -> Tensor:
        """See `PackedModel.hidden`."""
        output = self._body(
            input_ids=ids[None],
            position_ids=layout.positions[None],
            use_cache=False,
            layout=_Windowed(layout, self._windows) if self._windows else layout,
        )
        states: Tensor = output.last_hidden_state[0]
        return states.to(self.device)


class _Windowed:
    """A layout whose layers have windows.

    Args:
        layout: followed.
        windows: by layer, of those that have one.
    """

    def __init__(self, layout: Layout, windows: Mapping[int, int]) -> None:
        self.layout = layout
        self.positions, self.longest = layout.positions, layout.longest
        self.windows = {n: size for n, size in windows.items() if size < self.longest}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        if layer in self.windows:
            rules = replace(rules, window=self.windows[layer])
        return self.layout.attend(layer, query, key, value, rules)
