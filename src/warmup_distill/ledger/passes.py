"""What runs through a model, and the floating-point operations that it takes.

Operations are those of matrix products, a multiplication and an addition for each weight, as in
Kaplan et al. 2020, arXiv:2001.08361, section 2.1, and Hoffmann et al. 2022, arXiv:2203.15556,
appendix F. Norms, activations, softmaxes, losses and the optimizer are left out, a few percent of a
small model and less of a large one. So is what is computed and not used: padding, the tokens that
are drawn after an end before anybody looks, what a fused attention computes again in its backward
pass. A token is taken to attend to all before it in every layer, which is too much where layers
have windows, or no attention.
"""

from dataclasses import dataclass

from warmup_distill.models.sizes import Sizes


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Tokens that run through a model."""

    tokens: int = 0
    """Those that run through the body."""
    keys: int = 0
    """Sum over them of the tokens that each attends to, itself among them."""
    predictions: int = 0
    """Positions whose logits are computed."""

    @classmethod
    def of(cls, context: int, tokens: int, predictions: int = 0) -> "Pass":
        """So many tokens, one after the other, behind a context that is kept.

        Example:
            >>> Pass.of(10, 2)  # the first attends to 11 tokens, the second to 12
            Pass(tokens=2, keys=23, predictions=0)
        """
        keys = tokens * context + tokens * (tokens + 1) // 2
        return cls(tokens=tokens, keys=keys, predictions=predictions)

    def __add__(self, other: "Pass") -> "Pass":
        return Pass(
            tokens=self.tokens + other.tokens,
            keys=self.keys + other.keys,
            predictions=self.predictions + other.predictions,
        )


NOTHING = Pass()


def operations(one: Pass, sizes: Sizes) -> int:
    """Of a forward pass: 2 · body · tokens + 4 · layers · attention width · keys + 2 · head ·
    predictions. In attention a query is multiplied with each key, and its weight with the value.
    """
    return _products(one, sizes) + _attention(one, sizes)


def training_operations(trained: Pass, again: Pass, sizes: Sizes, adapters: int = 0) -> int:
    """Of forward and backward passes, which are twice a forward: gradients of inputs and weights.

    With adapters the weights have no gradient, and take one forward less; the adapters' own take
    all three. (The lowest layer then has no gradient of its inputs either: one part in twice the
    number of layers that is counted here and not computed.)

    Args:
        trained: what has a gradient.
        again: what the backward pass computes a second time: activations where they are
            checkpointed, but for the last product of a layer, and logits of blocks.
        adapters: numbers of low-rank adapters; 0 where all weights are trained.
    """
    found = 3 * _attention(trained, sizes) + operations(again, sizes)
    if adapters:
        tokens = 3 * trained.tokens + again.tokens
        return found + 2 * _products(trained, sizes) + 2 * adapters * tokens
    return found + 3 * _products(trained, sizes) - 2 * sizes.ends * again.tokens


def _products(one: Pass, sizes: Sizes) -> int:
    return 2 * (sizes.body * one.tokens + sizes.head * one.predictions)


def _attention(one: Pass, sizes: Sizes) -> int:
    return 4 * sizes.layers * sizes.attention_width * one.keys
