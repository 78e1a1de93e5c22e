"""Preference losses over the log-probabilities of two completions, one value per pair.

Shape letters: B pair. β is per nat.

What chosen and rejected share cancels in a loss of the difference of sums, in value and gradient:
`sigmoid`, `robust` and `hinge` may see the two endings alone. `ipo`, `simpo` and `nll` divide by
lengths or look at one side alone; they need whole completions and refuse anything else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDING = 2e-6
"""By what share of the sums a gain in float32 can be off; before the first step all are 0."""


@dataclass(frozen=True, kw_only=True)
class PairLogprobs:
    """Log-probabilities of pairs, summed over tokens, in nats; all tensors are [B]."""

    policy_chosen: Tensor
    policy_rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_tokens: Tensor
    """How many tokens each sum covers."""
    rejected_tokens: Tensor
    whole: bool
    """Whether the sums cover whole completions, or only what follows the shared prefix."""

    @property
    def gain(self) -> Tensor:
        """(log π_w − log π_ref,w) − (log π_l − log π_ref,l)."""
        chosen = self.policy_chosen - self.reference_chosen
        return chosen - (self.policy_rejected - self.reference_rejected)

    @property
    def won(self) -> Tensor:
        """Whether the chosen side is preferred [B] bool; what rounding can decide is no win."""
        sums = (self.policy_chosen, self.policy_rejected,
                self.reference_chosen, self.reference_rejected)  # fmt: skip
        return self.gain > ROUNDING * torch.stack([one.abs() for one in sums]).sum(0)


def dpo(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
) -> Tensor:
    """−log σ(β [(log π_w − log π_ref,w) − (log π_l − log π_ref,l)]) for each pair.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7. ln 2 where policy and reference
    agree. What the two completions share cancels in the difference, in value and gradient, so the
    sums may run over the two suffixes alone.

    Args:
        policy_chosen: [B] nats, summed over the chosen completion under the policy.
        policy_rejected: [B] nats, over the rejected one.
        reference_chosen: [B] nats, over the chosen one under the reference; no gradient.
        reference_rejected: [B] nats, over the rejected one under the reference; no gradient.
        beta: β per nat, > 0; higher holds the policy closer to the reference.

    Returns:
        [B] float32.
    """
    chosen = policy_chosen - reference_chosen
    rejected = policy_rejected - reference_rejected
    return -F.logsigmoid(beta * (chosen - rejected))


def sigmoid(pairs: PairLogprobs, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """−(1 − ε) log σ(β gain) − ε log σ(−β gain): DPO, conservative where ε > 0.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7; ε: Mitchell 2023, *A note on DPO
    with noisy preferences*, equation 3.
    """
    right, swapped = _both_ways(pairs, beta)
    return (1 - label_smoothing) * right + label_smoothing * swapped


def robust(pairs: PairLogprobs, *, beta: float, label_smoothing: float) -> Tensor:
    """[−(1 − ε) log σ(β gain) + ε log σ(−β gain)] / (1 − 2ε): unbiased if a share ε is swapped.

    Source: Chowdhury et al. 2024, arXiv:2403.00409, equation 12.
    """
    right, swapped = _both_ways(pairs, beta)
    return ((1 - label_smoothing) * right - label_smoothing * swapped) / (1 - 2 * label_smoothing)


def hinge(pairs: PairLogprobs, *, beta: float) -> Tensor:
    """max(0, 1 − β gain).

    Source: Zhao et al. 2023, SLiC-HF, arXiv:2305.10425, equation 1, on DPO's gain.
    """
    return F.relu(1 - beta * pairs.gain)


def ipo(pairs: PairLogprobs, *, beta: float) -> Tensor:
    """[gain of the means per token − 1 / (2β)]².

    Source: Azar et al. 2023, arXiv:2310.12036, equation 17, with means instead of sums, as its
    authors computed it and TRL does.
    """
    _require_whole(pairs, "ipo")
    chosen = (pairs.policy_chosen - pairs.reference_chosen) / pairs.chosen_tokens
    rejected = (pairs.policy_rejected - pairs.reference_rejected) / pairs.rejected_tokens
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def simpo(pairs: PairLogprobs, *, beta: float, gamma: float) -> Tensor:
    """−log σ(β (mean log π_w − mean log π_l) − γ): no reference at all.

    Source: Meng et al. 2024, arXiv:2405.14734, equation 6.
    """
    _require_whole(pairs, "simpo")
    chosen = pairs.policy_chosen / pairs.chosen_tokens
    rejected = pairs.policy_rejected / pairs.rejected_tokens
    return -F.logsigmoid(beta * (chosen - rejected) - gamma)


def nll(pairs: PairLogprobs) -> Tensor:
    """−mean log π_w, to be added with a weight.

    Source: Pang et al. 2024, arXiv:2404.19733, equation 1, second term.
    """
    _require_whole(pairs, "nll")
    return -pairs.policy_chosen / pairs.chosen_tokens


PREFERENCES: dict[str, Callable[..., Tensor]] = {
    "sigmoid": sigmoid,
    "robust": robust,
    "hinge": hinge,
    "ipo": ipo,
    "simpo": simpo,
}
"""Name in the recipe to function."""

NEED_REFERENCE = frozenset(PREFERENCES) - {"simpo"}
"""Those in which policy and reference are compared."""

NEED_WHOLE = frozenset({"ipo", "simpo"})
"""Those in which the shared prefix does not cancel."""


def _both_ways(pairs: PairLogprobs, beta: float) -> tuple[Tensor, Tensor]:
    """DPO of the pair as it is, and with its sides swapped."""
    policy = pairs.policy_chosen, pairs.policy_rejected
    reference = pairs.reference_chosen, pairs.reference_rejected
    return dpo(*policy, *reference, beta=beta), dpo(*policy[::-1], *reference[::-1], beta=beta)


def _require_whole(pairs: PairLogprobs, name: str) -> None:
    if not pairs.whole:
        raise ValueError(
            f"{name} needs log-probabilities of whole completions: the prefix that chosen and "
            "rejected share does not cancel in it. Got those of the endings alone."
        )
