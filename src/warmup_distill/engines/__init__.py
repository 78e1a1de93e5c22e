"""Engines: what draws completions and checks them. A stage does not know which engine ran."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from warmup_distill.records import Check, Sample


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A student completion that waits for the teacher's check."""

    prompt_ids: list[int]
    sample: Sample
    stream: int
    """Key of the random stream from which a continuation is drawn."""


class Engine(Protocol):
    """Two operations over token ids."""

    def sample(
        self,
        prompts: Sequence[list[int]],
        streams: Sequence[list[int]],
        *,
        max_new_tokens: int,
        temperature: float,
    ) -> list[list[Sample]]:
        """Draw completions from the student, for each prompt one per random stream.

        Args:
            prompts: token ids of P prompts.
            streams: for each prompt the keys of its completions' random streams.
            max_new_tokens: longest completion, end-of-sequence included.
            temperature: of the draw; 0 is greedy. Log-probabilities are always untempered.
        """

    def check_and_continue(
        self,
        drafts: Sequence[Draft],
        *,
        margin_threshold: float,
        max_new_tokens: int,
        temperature: float,
        stop_at_mismatch: bool,
    ) -> list[Check]:
        """Find each draft's first mismatch and let the teacher continue from there.

        Args:
            drafts: completions with the student's log-probabilities.
            margin_threshold: η in nats; a margin must be strictly greater.
            max_new_tokens: longest completion, what the continuation keeps of the draft included.
            temperature: of the teacher's draw; 0 is greedy. The first token of a continuation is
                never the student's at that place.
            stop_at_mismatch: leave out the teacher's log-probabilities after the mismatch.
        """
