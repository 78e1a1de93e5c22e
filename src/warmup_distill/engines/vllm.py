"""The engine whose two models are on servers of vLLM: a request per completion, many in flight."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from warmup_distill.engines import grouped
from warmup_distill.engines.mismatch import find_mismatch
from warmup_distill.engines.served import Served
from warmup_distill.engines.wire import Address, connected
from warmup_distill.errors import NumbersError, RunError, WarmupDistillError
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Check, Sample

T = TypeVar("T")


class VllmEngine:
    """Samples on one server, checks and continues on another.

    Args:
        student: draws the completions, and scores continuations.
        teacher: checks and continues them.
        vocabulary: what both share.
        advance: see `Engine`.
    """

    def __init__(
        self,
        student: Address,
        teacher: Address,
        vocabulary: Vocabulary,
        advance: Callable[[int], object] = lambda tokens: None,
    ) -> None:
        self.student, self.teacher = student, teacher
        self.vocabulary = vocabulary
        self.advance = advance

    def batches(
        self, prompts: Sequence[list[int]], num_samples: int, max_new_tokens: int
    ) -> list[list[int]]:
        """See `Engine.batches`: all at once, for a server makes its batches itself."""
        return [[*range(len(prompts))]] if prompts else []

    def sample(
        self,
        prompts: Sequence[list[int]],
        streams: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        no_repeat_ngram_size: int | None = None,
    ) -> list[list[Sample]]:
        """See `Engine.sample`."""
        if no_repeat_ngram_size is not None:
            raise RunError(
                "vLLM cannot ban repeated n-grams (no_repeat_ngram_size): draw in this process."
            )

        async def draw(student: Served, prompt: list[int], key: int) -> Sample:
            drawn = await student.draw(
                prompt, key, max_new_tokens=max_new_tokens, temperature=temperature
            )
            self.advance(len(drawn.ids))
            return drawn

        flat = self._all(
            lambda student, _: [
                draw(student, prompt, key)
                for prompt, keys in zip(prompts, streams, strict=True)
                for key in keys
            ]
        )
        return grouped(flat, streams)

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
        """See `Engine.check_and_continue`."""

        async def check(
            student: Served, teacher: Served, prompt: list[int], sample: Sample, key: int
        ) -> Check:
            logprobs = await teacher.score(prompt, sample.ids)
            self.advance(len(logprobs))
            k, margin = find_mismatch(sample.logprobs, logprobs, margin_threshold)
            if k is None:
                return Check(
                    teacher_logprobs=logprobs, mismatch_index=None, margin=margin,
                    continuation=None, continuation_ref_logprobs=None, scored=len(logprobs),
                )  # fmt: skip
            prefix = [*prompt, *sample.ids[:k]]
            ending = await teacher.draw(
                prefix,
                key,
                max_new_tokens=max_new_tokens - k,
                temperature=temperature,
                banned=[sample.ids[k]],
            )
            self.advance(len(ending.ids))
            return Check(
                teacher_logprobs=logprobs[: k + 1] if stop_at_mismatch else logprobs,
                mismatch_index=k,
                margin=margin,
                continuation=ending,
                continuation_ref_logprobs=await student.score(prefix, ending.ids),
                scored=len(logprobs),
            )

        flat = self._all(
            lambda student, teacher: [
                check(student, teacher, prompt, sample, key)
                for prompt, group, keys in zip(prompts, samples, streams, strict=True)
                for sample, key in zip(group, keys, strict=True)
            ]
        )
        return grouped(flat, samples)

    def _all(self, work: Callable[[Served, Served], Iterable[Coroutine[Any, Any, T]]]) -> list[T]:
        """What becomes of some work side by side; the first error ends all of it."""

        async def go() -> list[T]:
            async with connected(self.student) as student, connected(self.teacher) as teacher:
                both = [
                    Served(wire=wire, vocabulary=self.vocabulary) for wire in (student, teacher)
                ]
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one) for one in work(*both)]
            return [task.result() for task in tasks]

        try:
            return asyncio.run(go())
        except* (WarmupDistillError, NumbersError) as errors:
            first = errors.exceptions[0]
        raise first
