"""Branches under a model that cannot follow the token tree: whole sequences, its own cache.

Tokens are drawn by `generate`, which knows the cache of every architecture; what is drawn, with
which random numbers, and what is written down is ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation.logits_process import LogitsProcessor
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from warmup_distill.engines.picking import draw_tokens
from warmup_distill.engines.randomness import keys_of, uniforms
from warmup_distill.engines.rows import Row, banned_of
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.pack import alike, batches_by_size
from warmup_distill.tree.packed import require_finite
from warmup_distill.tree.plain import PlainModel

TOKENS_AT_ONCE = 2048
"""Tokens of one forward pass over whole sequences."""
ALIKE = 1.25
"""Rows are drawn together up to so many times the length of the shortest."""


class PlainBranches:
    """See `branches.Branches`: the tokens of each branch, and nothing kept besides."""

    def __init__(
        self,
        model: PlainModel,
        prompts: Sequence[Sequence[int]],
        owners: Sequence[int],
        capacity: int,
    ) -> None:
        self.model = model
        self.capacity = capacity
        self._starts = [len(prompts[owner]) for owner in owners]
        self._texts = [list(prompts[owner]) for owner in owners]

    def score(
        self,
        endings: Mapping[int, Sequence[int]],
        stop: Callable[[int, list[float]], bool] = lambda branch, logprobs: False,
        advance: Callable[[int], object] = lambda tokens: None,
    ) -> dict[int, list[float]]:
        """See `Branches.score`; `stop` is never asked, for sequences are run whole."""
        found = {}
        order = list(endings)
        sizes = [len(self._texts[branch]) + len(endings[branch]) for branch in order]
        for batch in batches_by_size(sizes, TOKENS_AT_ONCE):
            some = [order[i] for i in batch]
            hidden, targets = self.model.completion_hidden(
                [self._texts[branch] for branch in some], [endings[branch] for branch in some]
            )
            values = require_finite(self.model.logprobs(hidden, targets))
            counts = [len(endings[branch]) for branch in some]
            for branch, new in zip(some, torch.split(values, counts), strict=True):
                found[branch] = new.tolist()
            advance(sum(counts))
        for branch, ids in endings.items():
            self._texts[branch] += ids[:-1]
        return found

    def cut(self, lengths: Mapping[int, int]) -> None:
        """See `Branches.cut`."""
        for branch, length in lengths.items():
            del self._texts[branch][self._starts[branch] + length :]

    def draw(
        self,
        rows: Mapping[int, Row],
        temperature: float,
        advance: Callable[[int], object] = lambda tokens: None,
    ) -> None:
        """See `Branches.draw`."""
        order = list(rows)
        for group in alike([len(self._texts[branch]) for branch in order], ALIKE):
            some = [order[i] for i in group]
            texts = [self._texts[branch] for branch in some]
            self._draw(texts, [rows[branch] for branch in some], temperature, advance)
        drawn = {branch: row.ids for branch, row in rows.items()}
        if self.model.habits.pads:
            for branch, ids in drawn.items():
                self._texts[branch] += ids[:-1]
        else:
            # The numbers of such a model hang on the length of the text, which is known only now.
            for branch, values in self.score(drawn).items():
                rows[branch].logprobs = values

    def _draw(
        self,
        texts: Sequence[list[int]],
        rows: Sequence[Row],
        temperature: float,
        advance: Callable[[int], object],
    ) -> None:
        """Run what all texts have, then a token at a time: their own first, then drawn ones."""
        start = min(map(len, texts))
        ids = torch.tensor([text[:start] for text in texts], device=self.model.device)
        writer = Writer(texts, rows, self.model.vocabulary, temperature, advance)
        longest = max(len(t) + row.max_new_tokens for t, row in zip(texts, rows, strict=True))
        self.model.start_anew()
        run = generate if self.model.habits.caches else run_again
        run(self.model.model, ids, writer, longest - start)


def generate(model: PreTrainedModel, ids: Tensor, writer: "Writer", steps: int) -> None:
    """Let a writer write after ids [n, T], by the cache that `transformers` has for the model."""
    settings = {"max_new_tokens": steps, "do_sample": False, "pad_token_id": 0}
    with bare(model):
        model.generate(  # type: ignore[operator]
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(**settings),  # type: ignore[no-untyped-call]
            logits_processor=LogitsProcessorList([writer]),
            stopping_criteria=StoppingCriteriaList([Finished(writer)]),
        )


def run_again(model: PreTrainedModel, ids: Tensor, writer: "Writer", steps: int) -> None:
    """The same without a cache, for models of which `generate` makes something else."""
    for _ in range(steps):
        if writer.finished:
            return
        scores = writer(ids, model(input_ids=ids, use_cache=False).logits[:, -1])
        ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], dim=-1)


class Writer(LogitsProcessor):
    """Decides every next token, so that `generate` has no choice.

    Args:
        texts: tokens that a row has already; those not yet run are run first.
        rows: completed in place.
        advance: called with the number of tokens just drawn.
    """

    def __init__(
        self,
        texts: Sequence[list[int]],
        rows: Sequence[Row],
        vocabulary: Vocabulary,
        temperature: float,
        advance: Callable[[int], object],
    ) -> None:
        self.texts, self.rows = texts, rows
        self.vocabulary = vocabulary
        self.temperature = temperature
        self.advance = advance

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [n, V'] that leave each row [n, T] its one next token."""
        place = input_ids.shape[1]
        tokens = [text[place] if place < len(text) else 0 for text in self.texts]
        going = [
            i
            for i, (text, row) in enumerate(zip(self.texts, self.rows, strict=True))
            if place >= len(text) and not row.finished(self.vocabulary)
        ]
        if going:
            active = [self.rows[i] for i in going]
            logits = scores[going, : self.vocabulary.size].float()
            logits = self.vocabulary.ban(logits, -torch.inf)
            keys = keys_of([row.stream for row in active], logits.device)
            places = torch.tensor([len(row.ids) for row in active], device=logits.device)
            numbers = uniforms(keys, places)
            drawn = draw_tokens(logits, numbers, banned_of(active), self.temperature)
            found = drawn[0].tolist(), require_finite(drawn[1]).tolist()
            for i, token, logprob in zip(going, *found, strict=True):
                self.rows[i].take([token], [logprob], self.vocabulary)
                tokens[i] = token
            self.advance(len(going))
        chosen = torch.tensor(tokens, device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)

    @property
    def finished(self) -> bool:
        return all(row.finished(self.vocabulary) for row in self.rows)


class Finished(StoppingCriteria):
    """Stops when every row is complete."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        """[n] bool, the same for all rows."""
        return torch.full((len(input_ids),), self.writer.finished, device=input_ids.device)


@contextmanager
def bare(model: PreTrainedModel) -> Iterator[None]:
    """Without the generation settings that come with a model: penalties, forced tokens, ends."""
    before = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = before
