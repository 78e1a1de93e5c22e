"""What each layer of a model sees, read from the mask that the model itself asks for.

Not from the argument `sliding_window` of attention: that one is for FlashAttention, and some
families with windows leave it out (Qwen2-MoE, Phi-MoE).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from warmup_distill.models.placing import input_device
from warmup_distill.tree.attention import layer_of, require_known, unsupported, using
from warmup_distill.tree.rules import sees

NAME = "warmup_distill_windows"

LENGTH = 4
"""Tokens of the text on which a model is asked."""


def find_windows(model: PreTrainedModel, body: nn.Module) -> dict[int, int]:
    """For each layer that sees so many tokens only, itself among them, how many.

    Raises:
        ModelError: not every layer attends once, to what a mask of `transformers` lets it see.
    """
    found = _Found()
    places = torch.arange(LENGTH, device=input_device(model))[None]
    name = type(model).__name__
    with using(model, NAME), torch.no_grad():
        output = body(input_ids=places, position_ids=places, use_cache=False, windows=found)
    if getattr(output, "last_hidden_state", None) is None:
        raise unsupported(name, "its body cannot be told from its head")
    _require_all_layers(model, [layer for layer, _ in found.windows])
    return {layer: window for layer, window in found.windows if window}


class _Found:
    """Windows by layer. No bare list: the hooks of a spread model hand copies of lists on."""

    def __init__(self) -> None:
        self.windows: list[tuple[int, int]] = []


def _require_all_layers(model: PreTrainedModel, layers: list[int]) -> None:
    count: int = model.config.get_text_config().num_hidden_layers
    if sorted(layers) != list(range(count)):
        why = f"{len(set(layers))} of its {count} layers attend, {len(layers)} times in all"
        raise unsupported(type(model).__name__, why)


def _mask(
    *,
    q_length: int,
    kv_length: int,
    mask_function: Callable[[int, int, Tensor, Tensor], Tensor],
    device: torch.device,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **_: Any,
) -> Tensor:
    """What `transformers` calls for a mask: the window in every cell, or 0 if there is none.

    So a mask that a model changes is not taken for another one. Any mask but these is of truth
    values.
    """
    shape, size = (1, 1, q_length, kv_length), local_size or 0
    edges = [0, 1, 2, 3, size - 1, size, size + 1, 2 * size, 2 * size + 1]
    depths = torch.tensor(edges, device=device).clamp(min=0)
    pairs = depths[:, None], depths
    # Where a mask may not be skipped for a short text, there is more in it.
    plain = allow_is_causal_skip and local_size != 0
    if plain and mask_function(0, 0, *pairs).equal(sees(local_size, *pairs)):
        return torch.full(shape, size, dtype=torch.long, device=device)
    return torch.ones(shape, dtype=torch.bool, device=device)


def _note(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    windows: _Found | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Take down the window of a layer; the values that it returns are of no use."""
    require_known(module, others)
    if windows is None:
        raise unsupported(type(module).__name__, "it hides our arguments")
    windows.windows.append((layer_of(module), _window(module, attention_mask)))
    heads = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
    return heads.transpose(1, 2).contiguous(), None


def _window(module: nn.Module, mask: Tensor | None) -> int:
    """What stands in every cell of a mask."""
    if mask is None or mask.dtype != torch.long or mask.shape[-2:] != (LENGTH, LENGTH):
        raise unsupported(type(module).__name__, "it makes a mask of its own")
    first = mask.flatten()[0]
    if (mask != first).any():
        raise unsupported(type(module).__name__, "it changes its mask")
    return int(first)


AttentionInterface.register(NAME, _note)
AttentionMaskInterface.register(NAME, _mask)
