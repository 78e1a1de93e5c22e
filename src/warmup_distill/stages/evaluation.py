"""Models on benchmarks: their completions, their scores, and how far they are from the teacher."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from warmup_distill.cluster.places import Meter
from warmup_distill.engines import grouped
from warmup_distill.engines.drawing import Drawing, draw
from warmup_distill.engines.randomness import stream
from warmup_distill.models.chat import decode_completion
from warmup_distill.models.holding import ModelRef
from warmup_distill.recipe import Benchmark, Recipe
from warmup_distill.records import Completion, Prediction, Prompt
from warmup_distill.scoring.agreement import Distance, agreement
from warmup_distill.scoring.comparing import Comparison, compare
from warmup_distill.scoring.metrics import METRICS, Gold
from warmup_distill.scoring.statistics import estimate
from warmup_distill.stages.session import Session

Decoding = Literal["greedy", "sampled"]
Drawn = Sequence[Sequence[Completion]]
"""For each prompt its completions."""


def longest(recipe: Recipe, benchmark: Benchmark) -> int:
    """Tokens of a completion at the most."""
    return benchmark.max_new_tokens or recipe.rollouts.max_new_tokens


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model on one benchmark, and what it said."""

    session: Session
    model: ModelRef
    benchmark: Benchmark
    prompts: Sequence[Prompt]
    batch_tokens: int
    greedy: Drawn = ()
    sampled: Drawn = ()
    distances: Sequence[Sequence[Distance]] = ()
    """How far the model is from the teacher on each sample of the first prompts."""

    def drawings(self) -> dict[str, Drawing]:
        """The completions to draw, by the name of their folder.

        The first samples are drawn by themselves: in other company they could differ in the last
        bit.
        """
        more = range(1, self.session.recipe.evaluate.samples)
        wanted = {"greedy": self._drawing(0.0, range(1)), "sampled": self._drawing(1.0, range(1))}
        return wanted | ({"sampled-more": self._drawing(1.0, more)} if more else {})

    def _drawing(self, temperature: float, numbers: range) -> Drawing:
        """Of each prompt the completions with these numbers."""
        recipe = self.session.recipe
        # Every model gets the same random numbers, so that differences between them are paired.
        return Drawing(
            model=self.model,
            vocabulary=self.session.vocabulary,
            prompts=[prompt.prompt_ids for prompt in self.prompts],
            streams=[[_stream(recipe.seed, one, number) for number in numbers]
                     for one in self.prompts],
            max_new_tokens=longest(recipe, self.benchmark),
            temperature=temperature,
            batch_tokens=self.batch_tokens,
        )  # fmt: skip

    def with_drawn(self, drawn: Mapping[str, Drawn]) -> "Subject":
        """With the completions of `drawings`."""
        more = drawn.get("sampled-more") or [[] for _ in self.prompts]
        sampled = [[*a, *b] for a, b in zip(drawn["sampled"], more, strict=True)]
        return replace(self, greedy=drawn["greedy"], sampled=sampled)

    def comparison(self) -> Comparison:
        """The samples whose distance from the teacher is asked for, one after the other."""
        recipe = self.session.recipe
        checked = recipe.evaluate.agreement_prompts
        groups = [*zip(self.prompts, self.sampled, strict=True)][:checked]
        return Comparison(
            model=self.model,
            teacher=self.session.teacher_ref,
            vocabulary=self.session.vocabulary,
            prompts=[prompt.prompt_ids for prompt, group in groups for _ in group],
            completions=[one.completion_ids for _, group in groups for one in group],
            margin_threshold=recipe.rollouts.margin_threshold,
            max_new_tokens=longest(recipe, self.benchmark),
            batch_tokens=self.batch_tokens,
        )

    def with_distances(self, found: Sequence[Distance]) -> "Subject":
        """With the distances of `comparison`."""
        checked = self.session.recipe.evaluate.agreement_prompts
        return replace(self, distances=grouped(found, self.sampled[:checked]))

    def result(self) -> tuple[dict[str, Any], list[Prediction]]:
        """What the benchmark says of the model: means, and all predictions."""
        result: dict[str, Any] = {
            "benchmark": self.benchmark.name,
            "metric": self.benchmark.metric,
            "prompts": len(self.prompts),
            "samples": self.session.recipe.evaluate.samples,
        }
        predictions: list[Prediction] = []
        drawn: dict[Decoding, Drawn] = {"greedy": self.greedy, "sampled": self.sampled}
        for decoding, groups in drawn.items():
            known = _padded(self.distances if decoding == "sampled" else [], groups)
            scored = [
                [*self._predictions(decoding, *one)]
                for one in zip(self.prompts, groups, known, strict=True)
            ]
            result[decoding] = _summary(scored)
            predictions += chain(*scored)
        found = agreement([*chain(*self.distances)])
        return result | {"agreement": asdict(found)}, predictions

    def _predictions(
        self,
        decoding: Decoding,
        prompt: Prompt,
        drawn: Sequence[Completion],
        distances: Sequence[Distance | None],
    ) -> Iterator[Prediction]:
        name = self.benchmark.metric
        metric = "gsm8k_strict" if name == "accuracy" else name
        gold = Gold(
            references=[] if prompt.reference is None else [prompt.reference], answer=prompt.answer
        )
        for number, (one, distance) in enumerate(zip(drawn, distances, strict=True)):
            text = decode_completion(self.session.tokenizer, one.completion_ids)
            yield Prediction(
                benchmark=self.benchmark.name,
                decoding=decoding,
                prompt_id=prompt.prompt_id,
                sample_index=number,
                prediction=text,
                reference=prompt.reference,
                answer=prompt.answer,
                value=METRICS[metric](text, gold).value,
                finish_reason=one.finish_reason,
                tokens=len(one.completion_ids),
                **_columns(distance),
            )


def ask_all(
    session: Session, subjects: Sequence[Subject], folders: Sequence[Path], meter: Meter
) -> list[Subject]:
    """Every subject with its completions and distances.

    Args:
        folders: of each subject, for what is drawn, kept after an interruption.
        meter: hears of every token.
    """
    wanted = [one.drawings() for one in subjects]
    flat = [(n, part) for n, parts in enumerate(wanted) for part in parts]
    found = draw(
        session.place,
        [wanted[n][part] for n, part in flat],
        [folders[n] / part for n, part in flat],
        meter,
    )
    drawn: list[dict[str, Drawn]] = [{} for _ in subjects]
    for (n, part), groups in zip(flat, found, strict=True):
        drawn[n][part] = groups
    answered = [one.with_drawn(some) for one, some in zip(subjects, drawn, strict=True)]
    distances = compare(session.place, [one.comparison() for one in answered], meter)
    return [one.with_distances(some) for one, some in zip(answered, distances, strict=True)]


def _stream(seed: int, prompt: Prompt, number: int) -> int:
    """The random numbers of a completion; the first one's name is older than the others."""
    names = (seed, "evaluate", prompt.prompt_id)
    return stream(*names, number) if number else stream(*names)


def _padded(
    distances: Sequence[Sequence[Distance]], groups: Drawn
) -> list[Sequence[Distance | None]]:
    """The distances of each prompt's completions, None where none was measured."""
    return [*distances, *([None] * len(group) for group in groups[len(distances) :])]


def _columns(distance: Distance | None) -> dict[str, Any]:
    names = ("has_mismatch", "margin", "forward_kl", "reverse_kl")
    return {name: getattr(distance, name, None) for name in names}


def _summary(scored: Sequence[Sequence[Prediction]]) -> dict[str, Any]:
    """Mean and standard error over prompts, of each prompt's mean over its completions."""
    means = [statistics.fmean(one.value for one in group) for group in scored]
    truncated = sum(one.finish_reason == "length" for one in chain(*scored))
    return asdict(estimate(means)) | {"truncated": truncated}
