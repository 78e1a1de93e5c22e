"""The token tree's way to run a model: what sequences share is computed once.

Shape letters: S token of the packed row, E width of the hidden states.
"""

from contextlib import AbstractContextManager

from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.errors import ModelError
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.attention import Layout, following_layouts
from warmup_distill.tree.packed import PackedModel


class TreeModel(PackedModel):
    """Runs a model whose layers all use `transformers`' attention, which follows the layout."""

    shares = True

    def __init__(self, model: PreTrainedModel, vocabulary: Vocabulary) -> None:
        super().__init__(model, vocabulary)
        self._layers = set(range(model.config.get_text_config().num_hidden_layers))

    def _ready(self) -> AbstractContextManager[None]:
        return following_layouts(self.model)

    def hidden(self, ids: Tensor, layout: Layout) -> Tensor:
        """See `PackedModel.hidden`.

        Raises:
            ModelError: some layers have no attention that follows our layout.
        """
        watched = _Watched(layout)
        output = self._body(
            input_ids=ids[None],
            position_ids=layout.positions[None],
            use_cache=False,
            layout=watched,
        )
        if watched.layers != self._layers:
            raise ModelError(
                f"the token tree needs attention in every layer, but {type(self.model).__name__} "
                f"has it in {len(watched.layers)} of {len(self._layers)}"
            )
        states: Tensor = output.last_hidden_state[0]
        return states


class _Watched:
    """A layout that notes which layers asked."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.positions, self.longest = layout.positions, layout.longest
        self.layers: set[int] = set()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        self.layers.add(layer)
        return self.layout.attend(layer, query, key, value, scale)
