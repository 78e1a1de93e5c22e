"""Preference losses over the summed log-probabilities of two completions, one value per pair."""

import torch.nn.functional as F
from torch import Tensor


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
