"""How large a model is, and what its work takes, from its configuration alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

ROWS, INNER_ROWS = 8, 4
"""Tensors of a token's width, and of a feed-forward part's, that a layer has at one time."""

FOLLOWED = (".experts.", "post_feedforward", "post_mlp")
"""In the names of layers that do not end with a product."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Counts of numbers, whatever their dtype."""

    parameters: int
    multiplied: int
    """Those that a batch is multiplied with: all but an embedding that is no head too. Of a mixture
    of experts all are counted, for the tokens of a batch take different ones."""
    body: int
    """Weights of the layers that one token is multiplied with: of a mixture of experts those that
    it takes."""
    head: int
    """Weights of the output layer, padded rows included."""
    ends: int
    """Of `body`, the last product of each layer, which activation checkpointing does not repeat:
    none where a norm or the sum over experts comes after it, and needs it."""
    layers: int
    width: int
    inner_width: int
    """Of the feed-forward part."""
    attention_width: int
    """Query heads times their dimension."""
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
    weights = dict(_weights(model, _size(text, "num_experts_per_tok", 1)))
    return Sizes(
        parameters=model.num_parameters(),
        multiplied=_multiplied(model),
        body=sum(weights.values()),
        head=_head(model),
        ends=_ends(model, weights),
        layers=layers,
        width=width,
        inner_width=_size(text, "intermediate_size", 4 * width),
        attention_width=heads * head_width,
        cache_numbers=2 * layers * _size(text, "num_key_value_heads", heads) * head_width,
        head_rows=text.vocab_size,
    )


def _multiplied(model: Any) -> int:
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    tied = head is not None and (head.weight is embedding or model.config.tie_word_embeddings)
    return int(model.num_parameters() - (0 if tied else embedding.numel()))


def _head(model: Any) -> int:
    head = model.get_output_embeddings()
    return 0 if head is None else int(head.weight.numel())


def _weights(model: Any, experts_taken: int) -> Iterator[tuple[str, int]]:
    """The weights of the layers by name, each with how many of its numbers a token takes."""
    looked_up: set[Tensor] = {
        one.weight for one in model.modules() if isinstance(one, nn.Embedding)
    }
    head = model.get_output_embeddings()
    others = looked_up | ({head.weight} if head is not None else set())
    for name, values in model.named_parameters():
        if values.dim() < 2 or name.endswith("bias") or values in others:
            continue
        experts = len(values) if ".experts." in name and values.dim() == 3 else None
        taken = min(experts_taken, experts) if experts else 1
        yield name, values.numel() * taken // (experts or 1)


def _ends(model: Any, weights: dict[str, int]) -> int:
    names = [name for name, _ in model.named_parameters()]
    if any(part in name for name in names for part in FOLLOWED):
        return 0
    last = {found[0]: name for name in weights if (found := re.search(r"\.\d+\.", name))}
    return sum(weights[name] for name in last.values())


def _size(config: Any, name: str, otherwise: int) -> int:
    """A size of a configuration; not every family has every one, or has it alike in all layers."""
    try:
        value = getattr(config, name)
    except (AttributeError, ValueError):
        return otherwise
    return value if isinstance(value, int) and value > 0 else otherwise
