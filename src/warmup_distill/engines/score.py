"""Log-probabilities of given tokens on the branches of a tree, a chunk at a time."""

from collections.abc import Callable, Mapping, Sequence

import torch

from warmup_distill.tree.grow import TokenTree
from warmup_distill.tree.packed import require_finite

TOKENS_AT_ONCE = 2048
"""Tokens of one pass over all branches: enough for full speed, few enough to stop early."""


def score(
    tree: TokenTree,
    endings: Mapping[int, Sequence[int]],
    stop: Callable[[int, list[float]], bool] = lambda branch, logprobs: False,
    advance: Callable[[int], object] = lambda tokens: None,
) -> dict[int, list[float]]:
    """The log-probability of each token of `endings`, which continue the branches as they are.

    Args:
        tree: grows by the tokens scored, but for the last one of each branch.
        endings: tokens by branch, at least one each.
        stop: asked with a branch and its log-probabilities so far; True leaves the rest of it.
        advance: called with the number of tokens just scored.
    """
    if not endings:
        return {}
    order = tree.bring(list(endings))
    device = tree.model.device
    first = torch.tensor([endings[branch][0] for branch in order], device=device)
    values = require_finite(tree.model.logprobs(tree.tips(), first))
    found = {branch: [value] for branch, value in zip(order, values.tolist(), strict=True)}
    advance(len(order))
    while True:
        going = [b for b in order if len(found[b]) < len(endings[b]) and not stop(b, found[b])]
        if not going:
            return found
        order = tree.bring(going)
        chunk = max(1, TOKENS_AT_ONCE // len(order))
        counts: list[int] = []
        fed: list[int] = []
        targets: list[int] = []
        for branch in order:
            done = len(found[branch])
            after = endings[branch][done : done + chunk]
            counts.append(len(after))
            fed += endings[branch][done - 1 : done - 1 + len(after)]
            targets += after
        hidden = tree.feed(torch.tensor(fed, device=device), counts)
        values = require_finite(tree.model.logprobs(hidden, torch.tensor(targets, device=device)))
        for branch, new in zip(order, torch.split(values, counts), strict=True):
            found[branch] += new.tolist()
        advance(len(targets))
