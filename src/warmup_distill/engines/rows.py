"""Completions in the making: what was drawn, and when somebody has to look at it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from warmup_distill.engines.repeats import NoRepeat
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Sample


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
    def room(self) -> int:
        """Tokens that it may still have."""
        return self.max_new_tokens - len(self.ids)

    def take(self, tokens: Sequence[int], logprobs: Sequence[float], vocabulary: Vocabulary) -> int:
        """Append what was drawn, up to the end of the completion; returns how much that is."""
        if self.finished(vocabulary):
            return 0
        tokens = tokens[: self.room]
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
        return ended or self.room <= 0

    def sample(self, vocabulary: Vocabulary) -> Sample:
        ended = self.ids[-1] in vocabulary.eos_ids
        return Sample(
            ids=self.ids, logprobs=self.logprobs, finish_reason="eos" if ended else "length"
        )


def banned_of(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Which rows may not have which token next."""
    return [(i, token) for i, row in enumerate(rows) for token in row.banned]
