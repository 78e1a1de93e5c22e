"""Engines: what draws completions and checks them. A stage does not know which engine ran."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from warmup_distill.records import Check, Sample

T = TypeVar("T")


class Engine(Protocol):
    """Two operations over token ids, and how many prompts to give to them at a time.

    An engine is made with `advance`, a function that it calls while it works, many times in a long
    batch, with the number of tokens done since the last call: tokens of samples and continuations
    as they are drawn, tokens of samples as the teacher checks them. The student's log-probabilities
    of continuations are not counted. So sampling takes `max_new_tokens` a completion at the most,
    checking and continuing twice as many.
    """

    def batches(
        self, prompts: Sequence[list[int]], num_samples: int, max_new_tokens: int
    ) -> list[list[int]]:
        """Which prompts, by number, to sample and check together, so that nothing is run twice."""

    def sample(
        self,
        prompts: Sequence[list[int]],
        streams: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        no_repeat_ngram_size: int | None = None,
    ) -> list[list[Sample]]:
        """Draw completions from the student, for each prompt one per random stream.

        Args:
            prompts: token ids of P prompts.
            streams: for each prompt the keys of its completions' random streams.
            max_new_tokens: longest completion, end-of-sequence included.
            temperature: of the draw; 0 is greedy. Log-probabilities are always untempered.
            no_repeat_ngram_size: n; no token may complete an n-gram that prompt and completion
                have already. Log-probabilities do not know of the ban.
        """

    def check_and_continue(
        self,
        prompts: Sequence[list[int]],
        samples: Sequence[Sequence[Sample]],
        streams: Sequence[Sequence[int]],
        *,
        margin_threshold: float,
        max_new_tokens: int,
        temperature: float,
        stop_at_mismatch: bool,
    ) -> list[list[Check]]:
        """Find each sample's first mismatch and let the teacher continue from there.

        Args:
            prompts: token ids of P prompts.
            samples: for each prompt its completions, with the student's log-probabilities.
            streams: for each prompt the keys of its continuations' random streams.
            margin_threshold: η in nats; a margin must be strictly greater.
            max_new_tokens: longest completion, what the continuation keeps of the sample included.
            temperature: of the teacher's draw; 0 is greedy. The first token of a continuation is
                never the student's at that place.
            stop_at_mismatch: look no further; leaves out the teacher's later log-probabilities.
        """


def grouped(members: Sequence[T], groups: Sequence[Sequence[object]]) -> list[list[T]]:
    """A flat list cut into groups of the same sizes."""
    rest = iter(members)
    return [[next(rest) for _ in group] for group in groups]
