"""The default engine: any `AutoModelForCausalLM`, in this process."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from warmup_distill.engines import Draft
from warmup_distill.engines.decode import Row, decode
from warmup_distill.forward import completion_logprobs
from warmup_distill.mismatch import find_mismatch
from warmup_distill.records import Check, Sample
from warmup_distill.vocabulary import Vocabulary


class TransformersEngine:
    """Samples from a student and lets a teacher check and continue.

    Args:
        student: draws the completions.
        teacher: checks and continues them.
        vocabulary: what both share.
        batch_size: completions handled together.
        advance: called with the number of completions just sampled or checked.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        vocabulary: Vocabulary,
        batch_size: int,
        advance: Callable[[int], object] = lambda count: None,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.vocabulary = vocabulary
        self.batch_size = batch_size
        self.advance = advance

    def sample(
        self,
        prompts: Sequence[list[int]],
        streams: Sequence[list[int]],
        *,
        max_new_tokens: int,
        temperature: float,
    ) -> list[list[Sample]]:
        """See `Engine.sample`."""
        rows = [
            [Row(stream=stream, max_new_tokens=max_new_tokens) for stream in group]
            for group in streams
        ]
        self._decode(self.student, prompts, rows, temperature, advance=True)
        return [[row.sample(self.vocabulary) for row in group] for group in rows]

    def check_and_continue(
        self,
        drafts: Sequence[Draft],
        *,
        margin_threshold: float,
        max_new_tokens: int,
        temperature: float,
        stop_at_mismatch: bool,
    ) -> list[Check]:
        """See `Engine.check_and_continue`."""
        teacher_logprobs = completion_logprobs(
            self.teacher,
            self.vocabulary,
            [draft.prompt_ids for draft in drafts],
            [draft.sample.ids for draft in drafts],
            self.batch_size,
        )
        found = [
            find_mismatch(draft.sample.logprobs, logprobs, margin_threshold)
            for draft, logprobs in zip(drafts, teacher_logprobs, strict=True)
        ]
        cuts = {i: index for i, (index, _) in enumerate(found) if index is not None}
        endings = self._continue(drafts, cuts, max_new_tokens, temperature)
        checks = []
        for i, (index, margin) in enumerate(found):
            logprobs = teacher_logprobs[i]
            if stop_at_mismatch and index is not None:
                logprobs = logprobs[: index + 1]
            continuation, ref_logprobs = endings.get(i, (None, None))
            checks.append(
                Check(
                    teacher_logprobs=logprobs,
                    mismatch_index=index,
                    margin=margin,
                    continuation=continuation,
                    continuation_ref_logprobs=ref_logprobs,
                )
            )
        self.advance(len(drafts))
        return checks

    def _continue(
        self,
        drafts: Sequence[Draft],
        cuts: dict[int, int],
        max_new_tokens: int,
        temperature: float,
    ) -> dict[int, tuple[Sample, list[float]]]:
        """The teacher's ending of each cut draft, and its log-probabilities under the student."""
        prefixes = [[*drafts[i].prompt_ids, *drafts[i].sample.ids[:k]] for i, k in cuts.items()]
        rows = [
            Row(
                stream=drafts[i].stream,
                max_new_tokens=max_new_tokens - k,
                banned_first=drafts[i].sample.ids[k],
            )
            for i, k in cuts.items()
        ]
        self._decode(self.teacher, prefixes, [[row] for row in rows], temperature)
        ref_logprobs = completion_logprobs(
            self.student, self.vocabulary, prefixes, [row.ids for row in rows], self.batch_size
        )
        samples = [row.sample(self.vocabulary) for row in rows]
        return dict(zip(cuts, zip(samples, ref_logprobs, strict=True), strict=True))

    def _decode(
        self,
        model: PreTrainedModel,
        prefixes: Sequence[list[int]],
        rows: Sequence[list[Row]],
        temperature: float,
        advance: bool = False,
    ) -> None:
        """Decode in batches of prefixes of like length, about `batch_size` rows each."""
        order = sorted(range(len(prefixes)), key=lambda i: (len(prefixes[i]), i))
        while order:
            per_prefix = len(rows[order[0]])
            count = max(1, self.batch_size // per_prefix)
            batch, order = order[:count], order[count:]
            decode(
                model,
                self.vocabulary,
                [prefixes[i] for i in batch],
                [rows[i] for i in batch],
                temperature,
            )
            if advance:
                self.advance(sum(len(rows[i]) for i in batch))
