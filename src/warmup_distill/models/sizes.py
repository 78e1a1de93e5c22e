"""How large a model is, and what its work takes, from its configuration alone."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM

ROWS, INNER_ROWS = 8, 4
"""Tensors of a token's width, and of a feed-forward part's, that a layer has at one time."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Counts of numbers, whatever their dtype."""

    parameters: int
    multiplied: int
    """Those that every token is multiplied with: all but an embedding that is no head too. Of a
    mixture of experts all experts are counted, which is too many."""
    layers: int
    width: int
    inner_width: int
    """Of the feed-forward part."""
    cache_numbers: int
    """Keys and values of one token in all layers."""
    head_rows: int

    @property
    def passing(self) -> int:
        """Numbers of one token while a layer works on it."""
        return ROWS * self.width + INNER_ROWS * self.inner_width

    def kept_for_gradients(self, checkpointing: bool) -> int:
        """Numbers of one token that a backward pass needs."""
        per_layer = 10 * self.width + 4 * self.inner_width
        return (self.width if checkpointing else per_layer) * self.layers + per_layer


def sizes_of(config: Any) -> Sizes:
    """The sizes of a causal language model; no weights are made.

    Raises:
        Exception: whatever a family's code raises of such a configuration.
    """
    text = config.get_text_config()
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=False
        )
    width, layers = text.hidden_size, text.num_hidden_layers
    heads = _size(text, "num_attention_heads", 1)
    head_width = _size(text, "head_dim", width // heads)
    return Sizes(
        parameters=model.num_parameters(),
        multiplied=_multiplied(model),
        layers=layers,
        width=width,
        inner_width=_size(text, "intermediate_size", 4 * width),
        cache_numbers=2 * layers * _size(text, "num_key_value_heads", heads) * head_width,
        head_rows=text.vocab_size,
    )


def _multiplied(model: Any) -> int:
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    tied = head is not None and (head.weight is embedding or model.config.tie_word_embeddings)
    return int(model.num_parameters() - (0 if tied else embedding.numel()))


def _size(config: Any, name: str, otherwise: int) -> int:
    """A size of a configuration; not every family has every one, or has it alike in all layers."""
    try:
        value = getattr(config, name)
    except (AttributeError, ValueError):
        return otherwise
    return value if isinstance(value, int) and value > 0 else otherwise
