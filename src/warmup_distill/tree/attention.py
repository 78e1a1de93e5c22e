"""Attention that follows a layout, in any model that takes its attention from `transformers`.

Shape letters: S token of the packed row, H query head, K key head, D head dimension.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from warmup_distill.errors import ModelError

NAME = "warmup_distill_tree"


class Layout(Protocol):
    """Which tokens a packed row has, and what each of them attends to."""

    positions: Tensor
    """[S], the depth of each token in its tree."""
    longest: int
    """Tokens from the root to the deepest leaf."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention of one layer: query [S, H, D], key and value [S, K, D]; returns [S, H, D]."""


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What `transformers` calls in every layer: query [1, H, S, D], key and value [1, K, S, D]."""
    name = type(module).__name__
    unknown = [n for n in ("softcap", "s_aux", "position_bias") if others.get(n) is not None]
    if layout is None or unknown:
        raise _unsupported(name, f"it uses {unknown[0]}" if unknown else "it hides our layout")
    if sliding_window is not None and layout.longest > sliding_window:
        raise _unsupported(
            name,
            f"it sees {sliding_window} tokens back, and the batch has {layout.longest}; shorten "
            "max_new_tokens or the prompts to stay within",
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    index: int = module.layer_idx  # type: ignore[assignment]
    return layout.attend(index, rows[0], rows[1], rows[2], scale)[None], None


AttentionInterface.register(NAME, _attention)


@contextmanager
def following_layouts(model: PreTrainedModel) -> Iterator[None]:
    """Let a model's attention follow the layouts that it is given, until the end of the block."""
    before = model.config._attn_implementation
    if before == NAME:
        yield
        return
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise _unsupported(type(model).__name__, "it does not use transformers' AttentionInterface")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _unsupported(name: str, why: str) -> ModelError:
    return ModelError(
        f"the token tree needs ordinary attention in every layer, but {name} has not: {why}. "
        "Models of the Llama, Qwen2, Qwen3, Mistral, Phi-3, OLMo and GPT-2 families work."
    )
