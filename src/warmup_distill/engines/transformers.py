"""The default engine: any `AutoModelForCausalLM` in this process, over token trees if it can."""

from collections.abc import Callable, Sequence
from itertools import chain

import torch
from transformers import PreTrainedModel

from warmup_distill.engines import grouped
from warmup_distill.engines.branches import Branches, grow_branches
from warmup_distill.engines.mismatch import find_mismatch
from warmup_distill.engines.paths import packed_model
from warmup_distill.engines.repeats import NoRepeat
from warmup_distill.engines.rows import Row
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Check, Sample
from warmup_distill.tree.pack import batches_by_size


class TransformersEngine:
    """Samples from a student and lets a teacher check and continue.

    The student's tree of the last batch is kept, so that the continuations of what was just
    sampled are scored without running the student over prompt and prefix again.

    Args:
        student: draws the completions.
        teacher: checks and continues them.
        vocabulary: what both share.
        batch_tokens: tokens whose keys and values each model holds at one time.
        advance: see `Engine`.

    Raises:
        ModelError: a model is no causal language model.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        vocabulary: Vocabulary,
        batch_tokens: int,
        advance: Callable[[int], object] = lambda tokens: None,
    ) -> None:
        self.student = packed_model(student, vocabulary)
        self.teacher = packed_model(teacher, vocabulary)
        self.vocabulary = vocabulary
        self.batch_tokens = batch_tokens
        self.advance = advance
        self._sampled: tuple[list[Sample], Branches] | None = None

    def batches(
        self, prompts: Sequence[list[int]], num_samples: int, max_new_tokens: int
    ) -> list[list[int]]:
        """See `Engine.batches`: prompts of like length, as many as `batch_tokens` allows."""
        sizes = [len(prompt) + num_samples * max_new_tokens for prompt in prompts]
        return batches_by_size(sizes, self.batch_tokens)

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
        results: list[list[Sample]] = [[] for _ in prompts]
        for indices in self.batches(prompts, _widest(streams), max_new_tokens):
            some = [streams[i] for i in indices]
            rows = [
                Row(
                    stream=key,
                    max_new_tokens=max_new_tokens,
                    no_repeat=_no_repeat(no_repeat_ngram_size, prompts[i]),
                )
                for i in indices
                for key in streams[i]
            ]
            samples = self._sample([prompts[i] for i in indices], _owners(some), rows, temperature)
            for i, group in zip(indices, grouped(samples, some), strict=True):
                results[i] = group
        return results

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
        results: list[list[Check]] = [[] for _ in prompts]
        for indices in self.batches(prompts, _widest(samples), max_new_tokens):
            some = [samples[i] for i in indices]
            checks = self._check(
                [prompts[i] for i in indices],
                _owners(some),
                list(chain(*some)),
                list(chain(*(streams[i] for i in indices))),
                margin_threshold=margin_threshold,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                stop_at_mismatch=stop_at_mismatch,
            )
            for i, group in zip(indices, grouped(checks, some), strict=True):
                results[i] = group
        return results

    def forget(self) -> None:
        """Give back the memory of what was sampled last."""
        self._sampled = None

    @torch.inference_mode()
    def _sample(
        self, prompts: list[list[int]], owners: list[int], rows: list[Row], temperature: float
    ) -> list[Sample]:
        self.forget()  # its memory is needed now
        with self.student.following():
            branches = grow_branches(self.student, prompts, owners, rows[0].max_new_tokens)
            branches.draw(dict(enumerate(rows)), temperature, self.advance)
        samples = [row.sample(self.vocabulary) for row in rows]
        self._sampled = samples, branches
        return samples

    @torch.inference_mode()
    def _check(
        self,
        prompts: list[list[int]],
        owners: list[int],
        samples: list[Sample],
        streams: list[int],
        *,
        margin_threshold: float,
        max_new_tokens: int,
        temperature: float,
        stop_at_mismatch: bool,
    ) -> list[Check]:
        def mismatch(branch: int, logprobs: list[float]) -> tuple[int | None, float]:
            return find_mismatch(samples[branch].logprobs, logprobs, margin_threshold)

        def stop(branch: int, logprobs: list[float]) -> bool:
            return stop_at_mismatch and mismatch(branch, logprobs)[0] is not None

        ids = {branch: sample.ids for branch, sample in enumerate(samples)}
        rows: dict[int, Row] = {}
        with self.teacher.following():
            branches = grow_branches(self.teacher, prompts, owners, max_new_tokens)
            logprobs = branches.score(ids, stop, self.advance)
            found = {branch: mismatch(branch, logprobs[branch]) for branch in ids}
            scored = {branch: len(logprobs[branch]) for branch in ids}
            cuts = {branch: k for branch, (k, _) in found.items() if k is not None}
            for branch, k in cuts.items():
                room, first = max_new_tokens - k, ids[branch][k]
                rows[branch] = Row(stream=streams[branch], max_new_tokens=room, banned=(first,))
                if stop_at_mismatch:
                    del logprobs[branch][k + 1 :]
            branches.cut(cuts)
            branches.draw(rows, temperature, self.advance)
        references = self._references(prompts, owners, samples, cuts, rows)
        return [
            Check(
                teacher_logprobs=logprobs[branch],
                mismatch_index=index,
                margin=margin,
                continuation=rows[branch].sample(self.vocabulary) if branch in rows else None,
                continuation_ref_logprobs=references.get(branch),
                scored=scored[branch],
            )
            for branch, (index, margin) in found.items()
        ]

    def _references(
        self,
        prompts: list[list[int]],
        owners: list[int],
        samples: list[Sample],
        cuts: dict[int, int],
        rows: dict[int, Row],
    ) -> dict[int, list[float]]:
        """Log-probabilities under the student of the continuations that begin at the cuts."""
        capacity = max((k + len(rows[branch].ids) for branch, k in cuts.items()), default=0)
        kept, self._sampled = self._sampled, None  # it grows on, and serves but once
        with self.student.following():
            if kept and kept[0] == samples and kept[1].capacity >= capacity:
                kept[1].cut(cuts)
                return kept[1].score({branch: row.ids for branch, row in rows.items()})
            branches = grow_branches(self.student, prompts, owners, capacity)
            prefixes = {branch: samples[branch].ids[:k] for branch, k in cuts.items()}
            whole = branches.score({branch: prefixes[branch] + rows[branch].ids for branch in rows})
            return {branch: values[cuts[branch] :] for branch, values in whole.items()}


def _no_repeat(size: int | None, prompt: Sequence[int]) -> NoRepeat | None:
    return None if size is None else NoRepeat(size, prompt)


def _widest(groups: Sequence[Sequence[object]]) -> int:
    return max(map(len, groups), default=1)


def _owners(groups: Sequence[Sequence[object]]) -> list[int]:
    """For each member of each group the group's number."""
    return [number for number, group in enumerate(groups) for _ in group]
