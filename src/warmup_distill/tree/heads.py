"""The head of a model by itself: from hidden states to logits over the shared vocabulary.

Shape letters: E width of the states, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from warmup_distill.models.vocabulary import NEVER, Vocabulary
from warmup_distill.tree.inside import inside, is_sharded


class Head:
    """The last layer of a model, and what its family does to the logits after it.

    Args:
        layer: None where the states are logits already.
        config: the model's.
        vocabulary: logits are cut to its size.
    """

    def __init__(self, layer: nn.Module | None, config: Any, vocabulary: Vocabulary) -> None:
        self.layer = layer
        self.vocabulary = vocabulary
        self._after = _after_head(config.get_text_config())

    def logits(self, hidden: Tensor, banned: float = NEVER) -> Tensor:
        """Logits [..., V] float32 of states [..., E], cut to the vocabulary.

        Args:
            banned: the logit of each token that the vocabulary bans.
        """
        if self.layer is None:
            return self.vocabulary.ban(hidden.float(), banned)
        # Past the hooks that gather sharded weights, for every block would do so; see `inside`.
        run = self.layer.forward if is_sharded(self.layer) else self.layer
        logits: Tensor = run(hidden)[..., : self.vocabulary.size].float()
        return self.vocabulary.ban(self._after(logits), banned)

    def inside(self, function: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        """What a function makes of hidden states with `logits`, inside one call of the layer.

        Processes that share out the weights must call the layer equally often, however many
        blocks of positions each of them has.
        """
        return function(hidden) if self.layer is None else inside(self.layer, function, hidden)

    def parameters(self) -> list[nn.Parameter]:
        """What `logits` uses."""
        return [] if self.layer is None else list(self.layer.parameters())


def _after_head(config: Any) -> Callable[[Tensor], Tensor]:
    """What some families do to their logits: Cohere multiplies, Granite divides, Gemma 2 bends."""
    scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", 1) or 1)
    cap = getattr(config, "final_logit_softcapping", None)
    if cap:
        return lambda logits: cap * torch.tanh(scale * logits / cap)
    return (lambda logits: logits) if scale == 1 else (lambda logits: scale * logits)
