"""A causal language model as body and head: hidden states of packed rows, logits where needed.

Shape letters: S token of the packed row, E width of the hidden states, V vocabulary.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from warmup_distill.errors import ModelError, NumbersError
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.attention import Layout, following_layouts
from warmup_distill.tree.pack import Pack, pack_completions

LOGITS_AT_ONCE = 2**23
"""Logits held at one time, 32 MiB in float32: bounds memory whatever the vocabulary."""


class TreeModel:
    """Runs a model on layouts; within `following()` only.

    Args:
        model: any causal language model whose layers all use `transformers`' attention.
        vocabulary: logits are cut to its size.

    Raises:
        ModelError: the model does more between its body and its logits than we know of.
    """

    def __init__(self, model: PreTrainedModel, vocabulary: Vocabulary) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.device = model.device
        self._body: Any = model.get_decoder()  # type: ignore[no-untyped-call]
        self._head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        config: Any = model.config.get_text_config()
        self._layers = set(range(config.num_hidden_layers))
        self._after_head = _after_head(config)
        self._require_known_head()

    def following(self) -> AbstractContextManager[None]:
        return following_layouts(self.model)

    def hidden(self, ids: Tensor, layout: Layout) -> Tensor:
        """Hidden states [S, E] of a packed row of ids [S]."""
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
                f"has it in {len(watched.layers)} of {len(self._layers)}. Take a model without "
                "recurrent or convolutional layers."
            )
        states: Tensor = output.last_hidden_state[0]
        return states

    def completion_hidden(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Hidden states [N, E] that predict each completion token, and these tokens' ids [N]."""
        packed = {k: v.to(self.device) for k, v in pack_completions(prompts, completions).items()}
        pack = Pack(packed["lengths"].tolist(), self.device)
        return self.hidden(packed["input_ids"], pack)[packed["predictors"]], packed["targets"]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] float32 of hidden states [..., E], cut to the vocabulary."""
        logits: Tensor = self._head(hidden)[..., : self.vocabulary.size].float()
        return self._after_head(logits)

    def logprobs(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """log p(id) [N] in nats after hidden states [N, E], a block of logits at a time.

        With gradients the blocks are computed again in the backward pass.
        """
        size = self.positions_at_once
        blocks = zip(torch.split(hidden, size), torch.split(ids, size), strict=True)
        if torch.is_grad_enabled() and len(ids) > size:
            parts = [checkpoint(self._block, *block, use_reentrant=False) for block in blocks]
        else:
            parts = [self._block(*block) for block in blocks]
        return torch.cat(parts)

    def _block(self, hidden: Tensor, ids: Tensor) -> Tensor:
        return gather_logprobs(self.logits(hidden), ids)

    def head_parameters(self) -> list[nn.Parameter]:
        """What `logits` uses."""
        return list(self._head.parameters())

    @property
    def positions_at_once(self) -> int:
        return max(1, LOGITS_AT_ONCE // self.vocabulary.size)

    @torch.no_grad()
    def _require_known_head(self) -> None:
        ids = torch.arange(min(4, self.vocabulary.size), device=self.device)[None]
        expected = self.model(input_ids=ids).logits[..., : self.vocabulary.size].float()
        require_finite(expected)
        found = self.logits(self._body(input_ids=ids).last_hidden_state)
        if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
            raise ModelError(
                f"{type(self.model).__name__} does something between its last hidden state and its "
                "logits that is not known here. Take a model of the Llama or Qwen families."
            )


class _Watched:
    """A layout that notes which layers asked."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.positions, self.longest = layout.positions, layout.longest
        self.layers: set[int] = set()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        self.layers.add(layer)
        return self.layout.attend(layer, query, key, value, scale)


def gather_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """log p(id) at each position: logits [..., V] float32, ids [...]; returns [...] in nats."""
    # Not by logsumexp, whose backward pass takes three times as long on a CPU.
    return logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def require_finite(values: Tensor) -> Tensor:
    """Logits or log-probabilities, all of them finite.

    Raises:
        NumbersError: one is not.
    """
    if not torch.isfinite(values).all():
        raise NumbersError(
            "a logit or log-probability is not finite: a model's weights are broken, or overflow "
            "in their dtype. Try dtype float32, and look at the model by itself."
        )
    return values


def _after_head(config: Any) -> Callable[[Tensor], Tensor]:
    """What some families do to their logits: Cohere multiplies, Granite divides, Gemma 2 bends."""
    scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", 1) or 1)
    cap = getattr(config, "final_logit_softcapping", None)
    if cap:
        return lambda logits: cap * torch.tanh(scale * logits / cap)
    return (lambda logits: logits) if scale == 1 else (lambda logits: scale * logits)
