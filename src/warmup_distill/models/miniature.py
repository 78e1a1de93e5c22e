"""A small model of the same make: its configuration with few layers, made with random weights.

What a family's layers do with packed, padded or cached sequences does not hang on size or weights,
so it can be found out before the real weights are loaded. Windows and original contexts are made
shorter than the texts that such a model is tried with.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

TOKENS = 64
"""Of the miniature's vocabulary."""
WINDOW, ORIGINAL = 4, 8
"""Tokens of a miniature's window, and of the context that its rotary positions were made for."""
LARGEST = 4 * 10**8
"""Parameters; a miniature that is larger is not made."""

_INNER = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size",
          "shared_intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")  # fmt: skip
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_WINDOWS = ("sliding_window", "attention_window_size", "attention_chunk_size", "window_size",
            "local_attention", "sliding_window_size")  # fmt: skip
_BY_LENGTH = ("longrope", "dynamic")
"""Rotary positions that change with the length of the text."""


def miniature(config: PretrainedConfig) -> PreTrainedModel | None:
    """The miniature in float32, with weights that make every difference show; None if too large.

    Raises:
        Exception: whatever a family's code raises where the configuration is not to its liking.
    """
    small = _with_few_layers(copy.deepcopy(config.get_text_config()))
    for shrink in (_inside, _outside):
        shrink(small)
    with torch.device("meta"):
        blank: Any = _build(small)
    if blank.num_parameters() > LARGEST:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _build(small)
        with torch.no_grad():
            for weights in model.parameters():
                if weights.dim() > 1:
                    weights.normal_(0, math.prod(weights.shape[1:]) ** -0.5)
    return model


def _build(config: PretrainedConfig) -> PreTrainedModel:
    model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, trust_remote_code=False, dtype=torch.float32
    )
    made: PreTrainedModel = model.eval()
    return made


def _with_few_layers(config: PretrainedConfig) -> PretrainedConfig:
    """Enough of the first layers to have one of each kind; whatever is listed by layer follows."""
    count: int = config.num_hidden_layers
    kinds: list[Any] = list(getattr(config, "layer_types", None) or [])
    few = min(count, 2)
    if len(kinds) == count:
        few = max(few, max(kinds.index(kind) for kind in set(kinds)) + 1)
    for name, value in vars(config).items():
        if isinstance(value, list | tuple) and len(value) == count > few:
            setattr(config, name, value[:few])
    config.num_hidden_layers = few
    return config


def _inside(config: PretrainedConfig) -> None:
    """Feed-forward parts, experts and tokens: what has no part in how tokens see each other."""
    for name in _INNER:
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, min(getattr(config, name), 64))
    for name in _EXPERTS:
        if isinstance(getattr(config, name, None), int):
            chosen = getattr(config, "num_experts_per_tok", None) or 2
            setattr(config, name, min(getattr(config, name), max(4, 2 * chosen)))
    config.vocab_size = TOKENS
    for name, value in (("pad_token_id", 0), ("eos_token_id", 1), ("bos_token_id", 2)):
        if getattr(config, name, None) is not None:
            setattr(config, name, value)


def _outside(config: PretrainedConfig) -> None:
    """Windows and original contexts, to less than the texts that are tried."""
    for name in _WINDOWS:
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, min(getattr(config, name), WINDOW))
    for rope in _ropes(getattr(config, "rope_parameters", None)):
        if rope.get("rope_type") in _BY_LENGTH:
            rope["original_max_position_embeddings"] = ORIGINAL
            config.original_max_position_embeddings = ORIGINAL
            config.max_position_embeddings = ORIGINAL


def _ropes(parameters: Any) -> Iterator[dict[str, Any]]:
    """Rotary parameters of the model, or of each kind of its layers."""
    if isinstance(parameters, dict):
        yield parameters
        for nested in parameters.values():
            yield from _ropes(nested)
