"""Attention that follows a layout, in any model that takes its attention from `transformers`.

Shape letters: S token of the packed row, H query head, K key head, D head dimension.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

from warmup_distill.errors import ModelError
from warmup_distill.tree.rules import Rules

NAME = "warmup_distill_tree"

WITHOUT_EFFECT = {"dropout", "sliding_window", "position_ids"}
"""Arguments that change nothing here: completions are scored without dropout, windows are in the
masks (see `windows.py`), and positions are for the packing of FlashAttention."""


class Layout(Protocol):
    """Which tokens a packed row has, and what each of them attends to."""

    positions: Tensor
    """[S], the depth of each token in its tree."""
    longest: int
    """Tokens from the root to the deepest leaf."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        """Attention of one layer: query [S, H, D], key and value [S, K, D]; returns [S, H, D]."""


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    layout: Layout | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What `transformers` calls in every layer: query [1, H, S, D], key and value [1, K, S, D]."""
    require_known(module, others)
    if layout is None:
        raise unsupported(type(module).__name__, "it hides our layout")
    if attention_mask is not None:
        raise unsupported(type(module).__name__, "it makes a mask of its own")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Layers of a spread model are on several devices; what they look at is all on the layout's.
    here, there = layout.positions.device, query.device
    rows = [tensor[0].transpose(0, 1).to(here) for tensor in (query, key, value)]
    rules = Rules(scale, softcap, None if s_aux is None else s_aux.to(here))
    output = layout.attend(layer_of(module), rows[0], rows[1], rows[2], rules)
    return output[None].contiguous().to(there), None


AttentionInterface.register(NAME, _attention)


def following_layouts(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Let a model's attention follow the layouts that it is given, until the end of the block."""
    return using(model, NAME)


@contextmanager
def using(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let a model attend by the function of this name until the end of the block."""
    if model.config._attn_implementation == name:
        yield
        return
    before = [(config, config._attn_implementation) for config in _configs(model)]
    try:
        model.set_attn_implementation(name)
        if model.config._attn_implementation != name:
            why = "it does not use transformers' AttentionInterface"
            raise unsupported(type(model).__name__, why)
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = {"": implementation}


def _configs(model: PreTrainedModel) -> list[PretrainedConfig]:
    """All that say how a model and the models inside it attend, the outer ones first."""
    found: list[PretrainedConfig] = []
    waiting = [part.config for part in model.modules() if isinstance(part, PreTrainedModel)]
    while waiting:
        config = waiting.pop(0)
        if not any(config is one for one in found):
            found.append(config)
            waiting += [part for name in config.sub_configs if (part := getattr(config, name))]
    return found


def require_known(module: nn.Module, arguments: Mapping[str, Any]) -> None:
    """Raise a ModelError if attention is asked for something that a tree does not do."""
    for name in arguments.keys() - WITHOUT_EFFECT:
        value = arguments[name]
        harmless = value is not False if name == "is_causal" else value is None or value is False
        if not harmless:
            raise unsupported(type(module).__name__, f"it uses {name}")


def layer_of(module: nn.Module) -> int:
    """The number of the layer that a module attends for."""
    index = getattr(module, "layer_idx", None)
    if not isinstance(index, int):
        raise unsupported(type(module).__name__, "it does not number its layers")
    return index


def unsupported(name: str, why: str) -> ModelError:
    return ModelError(f"the token tree cannot follow the attention of {name}: {why}")
