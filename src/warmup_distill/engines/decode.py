"""Drawing tokens one at a time from a model, branches of a tree side by side.

No step waits for the device: rows are looked at every few steps, and what was drawn after an end is
dropped, so the records are those of a look at every step.

Shape letters: n branch at work, T step since the last look, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from warmup_distill.engines.randomness import keys_of, uniforms
from warmup_distill.engines.repeats import NoRepeat
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Sample
from warmup_distill.tree.grow import TokenTree
from warmup_distill.tree.packed import require_finite

LOOKS_EVERY = 4
"""Steps from one look at the rows to the next, which waits for the device."""
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

    @property
    def steps(self) -> int:
        """Steps that may pass before somebody has to look at it."""
        if self.no_repeat:
            return 1
        return min(LOOKS_EVERY, self.max_new_tokens - len(self.ids))

    def take(self, tokens: Sequence[int], logprobs: Sequence[float], vocabulary: Vocabulary) -> int:
        """Append what was drawn, up to the end of the completion; returns how much that is."""
        ends = (i + 1 for i, token in enumerate(tokens) if token in vocabulary.eos_ids)
        count = next(ends, len(tokens))
        self.ids += tokens[:count]
        self.logprobs += logprobs[:count]
        self.banned = ()
        if self.no_repeat:
            for token in tokens[:count]:
                self.no_repeat.append(token)
            self.banned = self.no_repeat.banned
        return count

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
    """Complete rows in place, each on the branch of its number; finished ones leave at a look.

    Args:
        advance: called with the number of tokens just drawn.

    Raises:
        NumbersError: a log-probability is not finite.
    """
    if not rows:
        return
    vocabulary = tree.model.vocabulary
    order = tree.bring(list(rows))
    before = dict(zip(order, tree.lengths(), strict=True))
    hidden = tree.tips()
    while True:
        active = [rows[branch] for branch in order]
        drawn = _draw(tree, hidden, active, temperature)
        advance(_take(active, *drawn, vocabulary))
        going = [branch for branch in order if not rows[branch].finished(vocabulary)]
        if not going:
            break
        if len(going) < len(order):
            order = tree.bring(going)
        last = [rows[branch].ids[-1] for branch in order]
        hidden = tree.feed(torch.tensor(last, device=hidden.device))
    tree.cut({branch: before[branch] + len(row.ids) - 1 for branch, row in rows.items()})


def _draw(
    tree: TokenTree, hidden: Tensor, rows: Sequence[Row], temperature: float
) -> tuple[Tensor, Tensor]:
    """Tokens [n, T] and their log-probabilities [n, T], for as many steps as nobody has to look.

    The last ones are not fed. Nothing in the loop may wait for the device.
    """
    numbers = numbers_of(rows, min(row.steps for row in rows), hidden.device)
    banned = banned_of(rows)
    drawn: list[tuple[Tensor, Tensor]] = []
    for numbers_n in numbers.unbind(-1):
        if drawn:
            hidden, banned = tree.feed(drawn[-1][0]), []
        logits = tree.model.logits(hidden, banned=-torch.inf)  # drawn at no temperature
        drawn.append(draw_tokens(logits, numbers_n, banned, temperature))
    tokens, logprobs = (torch.stack(column, dim=1) for column in zip(*drawn, strict=True))
    return tokens, logprobs


def _take(rows: Sequence[Row], tokens: Tensor, logprobs: Tensor, vocabulary: Vocabulary) -> int:
    """Give rows what was drawn for them [n, T]; returns how many tokens were not dropped."""
    values = logprobs.cpu()
    counts = [
        row.take(*drawn, vocabulary)
        for row, drawn in zip(rows, zip(tokens.tolist(), values.tolist(), strict=True), strict=True)
    ]
    kept = torch.arange(values.shape[1]) < torch.tensor(counts)[:, None]
    require_finite(values[kept])
    return sum(counts)


def numbers_of(rows: Sequence[Row], steps: int, device: torch.device) -> Tensor:
    """The random numbers [n, T] of the next steps of rows, float64."""
    places = torch.tensor([len(row.ids) for row in rows], device=device)
    keys = keys_of([row.stream for row in rows], device)
    return uniforms(keys[:, None], places[:, None] + torch.arange(steps, device=device))


def banned_of(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Which rows may not have which token next."""
    return [(i, token) for i, row in enumerate(rows) for token in row.banned]


def draw_tokens(
    logits_nV: Tensor,
    numbers_n: Tensor,
    banned: Sequence[tuple[int, int]],
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """One token a row [n] and its log-probability [n] under the untempered, unmasked model.

    Over a whole vocabulary every pass counts, so there are few; `logits_nV` is overwritten. Whether
    the log-probabilities are finite is for the caller to ask.
    """
    scores_nV = logits_nV.sub_(logits_nV.amax(-1, keepdim=True))
    weights_nV = scores_nV.exp()
    normalizer_n1 = weights_nV.sum(-1, keepdim=True).log()
    if temperature not in (0, 1):
        weights_nV = (scores_nV / temperature).exp_()
    if banned:
        where, tokens = (list(column) for column in zip(*banned, strict=True))
        weights_nV[where, tokens] = 0.0
        scores_nV[where, tokens] = -torch.inf
    tokens_n = scores_nV.argmax(-1) if temperature == 0 else invert_cdf(weights_nV, numbers_n)
    chosen_n1 = scores_nV.gather(-1, tokens_n[:, None])
    return tokens_n, (chosen_n1 - normalizer_n1).squeeze(-1)


def invert_cdf(weights_nV: Tensor, numbers_n: Tensor) -> Tensor:
    """The token [n] at which the cumulative weight first exceeds a share in [0, 1) of the whole.

    Blocks are summed first, then one block is searched. Never a token of weight zero: each target
    stays below the sum that is really reached. Of weights that are nan it is the last one.
    """
    missing = -weights_nV.shape[-1] % BLOCK
    padded = F.pad(weights_nV, (0, missing)) if missing else weights_nV
    blocks = padded.reshape(len(padded), -1, BLOCK)
    ends = blocks.sum(-1).double().cumsum(-1)
    block, target = _first_above(ends, numbers_n[:, None] * ends[:, -1:])
    block.clamp_(max=ends.shape[-1] - 1)
    start = torch.where(block > 0, ends.gather(-1, (block - 1).clamp(min=0)), 0.0)
    rows = torch.arange(len(blocks), device=blocks.device)
    within = blocks[rows, block.squeeze(-1)].double().cumsum(-1)
    place, _ = _first_above(within, target - start)
    return (block * BLOCK + place).squeeze(-1).clamp_(max=weights_nV.shape[-1] - 1)


def _first_above(ends: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Where cumulative sums [n, M] first exceed a target [n, 1], which is kept below the last."""
    total = ends[:, -1:]
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(ends, target, right=True), target
