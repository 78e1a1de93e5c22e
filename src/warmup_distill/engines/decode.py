"""Drawing tokens one at a time from a model, branches of a tree side by side.

Shape letters: n branch at work, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from warmup_distill.engines.randomness import uniforms
from warmup_distill.engines.repeats import NoRepeat
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Sample
from warmup_distill.tree.grow import TokenTree
from warmup_distill.tree.packed import require_finite

BLOCK = 256
"""Tokens summed together before the cumulative sum, which is slow over a whole vocabulary."""


@dataclass(kw_only=True)
class Row:
    """One completion in the making."""

    stream: int
    max_new_tokens: int
    banned: Sequence[int] = ()
    """Tokens that may not come next."""
    no_repeat: NoRepeat | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.no_repeat:
            self.banned = [*self.banned, *self.no_repeat.banned]

    def append(self, token: int, logprob: float) -> None:
        self.ids.append(token)
        self.logprobs.append(logprob)
        if self.no_repeat:
            self.no_repeat.append(token)
        self.banned = self.no_repeat.banned if self.no_repeat else ()

    def finished(self, vocabulary: Vocabulary) -> bool:
        ended = bool(self.ids) and self.ids[-1] in vocabulary.eos_ids
        return ended or len(self.ids) >= self.max_new_tokens

    def sample(self, vocabulary: Vocabulary) -> Sample:
        ended = self.ids[-1] in vocabulary.eos_ids
        return Sample(
            ids=self.ids, logprobs=self.logprobs, finish_reason="eos" if ended else "length"
        )


def decode(
    tree: TokenTree,
    rows: dict[int, Row],
    temperature: float,
    advance: Callable[[int], object],
) -> None:
    """Complete rows in place, each on the branch of its number; finished ones leave at once.

    Args:
        advance: called with the number of tokens just drawn, one for each row at work.
    """
    if not rows:
        return
    vocabulary = tree.model.vocabulary
    order = tree.bring(list(rows))
    hidden = tree.tips()
    while True:
        active = [rows[branch] for branch in order]
        logits = tree.model.logits(hidden, banned=-torch.inf)  # drawn at no temperature
        tokens, logprobs = draw_tokens(logits, active, temperature)
        for row, token, logprob in zip(active, tokens.tolist(), logprobs.tolist(), strict=True):
            row.append(token, logprob)
        advance(len(active))
        going = [branch for branch in order if not rows[branch].finished(vocabulary)]
        if not going:
            return
        if len(going) < len(order):
            order = tree.bring(going)
            tokens = torch.tensor([rows[branch].ids[-1] for branch in order], device=tokens.device)
        hidden = tree.feed(tokens)


def draw_tokens(
    logits_nV: Tensor, rows: Sequence[Row], temperature: float
) -> tuple[Tensor, Tensor]:
    """One token a row [n] and its log-probability [n] under the untempered, unmasked model.

    Over a whole vocabulary every pass counts, so there are few; `logits_nV` is overwritten.
    """
    scores_nV = logits_nV.sub_(logits_nV.amax(-1, keepdim=True))
    weights_nV = scores_nV.exp()
    normalizer_n1 = weights_nV.sum(-1, keepdim=True).log()
    if temperature not in (0, 1):
        weights_nV = (scores_nV / temperature).exp_()
    banned = [(i, token) for i, row in enumerate(rows) for token in row.banned]
    if banned:
        where, tokens = (list(column) for column in zip(*banned, strict=True))
        weights_nV[where, tokens] = 0.0
        scores_nV[where, tokens] = -torch.inf
    if temperature == 0:
        tokens_n = scores_nV.argmax(-1)
    else:
        streams = np.array([row.stream for row in rows], dtype=np.uint64)
        places = np.array([len(row.ids) for row in rows], dtype=np.uint64)
        numbers = torch.from_numpy(uniforms(streams, places))
        tokens_n = invert_cdf(weights_nV, numbers.to(logits_nV.device))
    chosen_n1 = scores_nV.gather(-1, tokens_n[:, None])
    return tokens_n, require_finite((chosen_n1 - normalizer_n1).squeeze(-1))


def invert_cdf(weights_nV: Tensor, numbers_n: Tensor) -> Tensor:
    """The token [n] at which the cumulative weight first exceeds a share in [0, 1) of the whole.

    Blocks are summed first, then one block is searched. Never a token of weight zero: each target
    stays below the sum that is really reached.
    """
    missing = -weights_nV.shape[-1] % BLOCK
    padded = F.pad(weights_nV, (0, missing)) if missing else weights_nV
    blocks = padded.reshape(len(padded), -1, BLOCK)
    ends = blocks.sum(-1).double().cumsum(-1)
    block, target = _first_above(ends, numbers_n[:, None] * ends[:, -1:])
    start = torch.where(block > 0, ends.gather(-1, (block - 1).clamp(min=0)), 0.0)
    rows = torch.arange(len(blocks), device=blocks.device)
    within = blocks[rows, block.squeeze(-1)].double().cumsum(-1)
    place, _ = _first_above(within, target - start)
    return (block * BLOCK + place).squeeze(-1)


def _first_above(ends: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Where cumulative sums [n, M] first exceed a target [n, 1], which is kept below the last."""
    total = ends[:, -1:]
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(ends, target, right=True), target
