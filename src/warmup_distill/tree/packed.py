"""A causal language model as body and head, run on rows of packed sequences.

Shape letters: S token of the packed row, N predicted token, E width of the states, V vocabulary.
"""

import abc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from warmup_distill.errors import NumbersError
from warmup_distill.models.placing import input_device
from warmup_distill.models.vocabulary import NEVER, Vocabulary
from warmup_distill.tree.attention import Layout
from warmup_distill.tree.heads import Head
from warmup_distill.tree.pack import Pack, pack_completions

LOGITS_AT_ONCE = 2**23
"""Logits held at one time, 32 MiB in float32: bounds memory whatever the vocabulary."""


class PackedModel(abc.ABC):
    """Runs a model on layouts; within `following()` only.

    Its tensors come and go on `device`, wherever the parts of the model are.

    Args:
        model: a causal language model.
        vocabulary: logits are cut to its size.
    """

    shares: bool
    """Whether sequences may share what they begin with; if not, layouts are `Pack`s alone."""
    by_length: bool
    """Whether a token's numbers hang on the length of its text: sequences are then run with their
    last token, which others do without."""

    def __init__(self, model: PreTrainedModel, vocabulary: Vocabulary) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.device = input_device(model)
        self._body: Any = model.get_decoder()  # type: ignore[no-untyped-call]
        layer: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self.head = Head(layer, model.config, vocabulary)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Until the end of the block `hidden` may be called; the model runs without dropout."""
        if self.model.training:
            without_dropout(self.model)
        with self._ready():
            yield

    def _ready(self) -> AbstractContextManager[None]:
        return nullcontext()

    @abc.abstractmethod
    def hidden(self, ids: Tensor, layout: Layout) -> Tensor:
        """States [S, E] of a packed row of ids [S], which `logits` understands."""

    def completion_hidden(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """States [N, E] that predict each completion token, and these tokens' ids [N]."""
        packed = pack_completions(prompts, completions, to_the_end=self.by_length)
        packed = {k: v.to(self.device) for k, v in packed.items()}
        pack = Pack(packed["lengths"].tolist(), self.device)
        return self.hidden(packed["input_ids"], pack)[packed["predictors"]], packed["targets"]

    def logits(self, hidden: Tensor, banned: float = NEVER) -> Tensor:
        """Logits [..., V] float32 of states [..., E], cut to the vocabulary.

        Args:
            banned: the logit of each token that the vocabulary bans.
        """
        return self.head.logits(hidden.to(self.device), banned).to(self.device)

    def logprobs(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """log p(id) [N] in nats after states [N, E], a block of logits at a time.

        With gradients the blocks are computed again in the backward pass.
        """
        return self.head.inside(lambda states: self._logprobs(states, ids), hidden)

    def _logprobs(self, hidden: Tensor, ids: Tensor) -> Tensor:
        size = self.positions_at_once
        blocks = zip(torch.split(hidden, size), torch.split(ids, size), strict=True)
        if self.repeats(len(ids)):
            parts = [checkpoint(self._block, *block, use_reentrant=False) for block in blocks]
        else:
            parts = [self._block(*block) for block in blocks]
        return torch.cat(parts)

    def repeats(self, positions: int) -> bool:
        """Whether `logprobs` of so many positions computes logits twice, the block's of each."""
        return torch.is_grad_enabled() and positions > self.positions_at_once

    def _block(self, hidden: Tensor, ids: Tensor) -> Tensor:
        return gather_logprobs(self.logits(hidden), ids)

    @property
    def positions_at_once(self) -> int:
        return max(1, LOGITS_AT_ONCE // self.vocabulary.size)


def without_dropout(model: nn.Module) -> None:
    """Put every part of a model into evaluation mode but for what has to know of the training.

    The reference was scored without dropout, so the policy starts from it without dropout, and
    without whatever else families do in training mode alone (jitter of routers, dropped layers).
    Dropout of adapters stays: the recipe asks for it by name, and new adapters add nothing. Parts
    that checkpoint activations do so in training mode alone; their own dropout is set to 0.
    """
    for name, module in model.named_modules():
        checkpoints = bool(getattr(module, "gradient_checkpointing", False))
        module.training = checkpoints or "lora_dropout" in name
        if checkpoints:
            for attribute, value in vars(module).items():
                if "drop" in attribute and isinstance(value, float):
                    setattr(module, attribute, 0.0)


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
