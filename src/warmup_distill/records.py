"""What travels between the stages: frozen records of token ids and log-probabilities.

Ids are the truth and text is for people: nothing downstream tokenizes text that was decoded.
Log-probabilities are natural logarithms (nats) of the untempered model over the shared vocabulary.
The columns of every Parquet file in a run directory are the fields of one of these records.
"""

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["eos", "length"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt, ready for the models."""

    prompt_id: str
    prompt_ids: list[int]
    text: str
    """What the user asked, before any chat template."""
    reference: str | None
    """A good answer, where the data has one."""
    answer: str | None
    """The final answer that a verifier holds a completion to, where the task has one."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One completion with the log-probability of each of its tokens under the model that drew it.

    `ids` ends with an end-of-sequence token exactly if `finish_reason` is "eos".
    """

    ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One of the completions that were drawn for a prompt, in the order of its random streams."""

    prompt: int
    """Number of the prompt among those that were asked together."""
    completion_ids: list[int]
    finish_reason: FinishReason


@dataclass(frozen=True, kw_only=True)
class Check:
    """What the teacher says of one student completion."""

    teacher_logprobs: list[float]
    """Log-probability of each token under the teacher, up to where the check stopped."""
    mismatch_index: int | None
    """First token whose margin exceeds the threshold, counted from 0; None if there is none."""
    margin: float
    """log q − log p at the mismatch index, or the largest of the completion if there is none."""
    continuation: Sample | None
    """The teacher's own ending from the mismatch index on; None if there is none."""
    continuation_ref_logprobs: list[float] | None
    """Log-probability of each token of the continuation under the student."""
    scored: int = field(compare=False)
    """Tokens of the completion that the teacher has scored: some more than are kept where it stops,
    for it looks at many together."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One student completion, checked and, where it mismatches, continued by the teacher."""

    prompt_id: str
    sample_index: int
    completion_ids: list[int]
    student_logprobs: list[float]
    teacher_logprobs: list[float]
    mismatch_index: int | None
    margin: float
    continuation_ids: list[int] | None
    continuation_ref_logprobs: list[float] | None
    finish_reason: FinishReason
    continuation_finish_reason: FinishReason | None
    scored: int | None = field(default=None, compare=False)
    """See `Check.scored`. It costs and says nothing else; earlier versions did not keep it."""

    @property
    def sample(self) -> Sample:
        """The completion as the student drew it."""
        return Sample(
            ids=self.completion_ids,
            logprobs=self.student_logprobs,
            finish_reason=self.finish_reason,
        )

    @property
    def corrected_ids(self) -> list[int]:
        """The completion up to its mismatch and the teacher's from there; all of it without one."""
        if self.mismatch_index is None:
            return self.completion_ids
        return [*self.completion_ids[: self.mismatch_index], *(self.continuation_ids or [])]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A preference pair that shares prompt and prefix: equal before `mismatch_index`, then not."""

    prompt_id: str
    sample_index: int
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    mismatch_index: int
    chosen_ref_logprob: float
    """Sum over `chosen_ids[mismatch_index:]` under the reference (the student before warm-up)."""
    rejected_ref_logprob: float
    """Sum over `rejected_ids[mismatch_index:]` under the reference."""
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One scored completion of an evaluated model."""

    benchmark: str
    decoding: Literal["greedy", "sampled"]
    prompt_id: str
    sample_index: int
    """Which of the prompt's completions in this decoding, from 0."""
    prediction: str
    reference: str | None
    answer: str | None
    value: float
    """0 or 100 for accuracy, 0 to 100 for Rouge-L."""
    finish_reason: FinishReason
    tokens: int
    """Of the completion, end-of-sequence included."""
    has_mismatch: bool | None
    """Whether the teacher found a mismatch; it and the sums are None where it did not look."""
    margin: float | None
    """log q − log p, summed over the tokens, nats."""
    forward_kl: float | None
    """KL(teacher ‖ model), summed over the tokens, nats."""
    reverse_kl: float | None
    """KL(model ‖ teacher), summed over the tokens, nats."""
