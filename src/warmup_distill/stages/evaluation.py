"""One model on one benchmark: its completions, their scores, and how far it is from the teacher."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from warmup_distill.engines.drawing import draw
from warmup_distill.engines.progress import Progress
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.chat import decode_completion
from warmup_distill.models.loading import identity, load_model
from warmup_distill.recipe import Benchmark, Recipe
from warmup_distill.records import Completion, Prediction, Prompt
from warmup_distill.scoring.agreement import Distance, agreement, measure_distances
from warmup_distill.scoring.metrics import METRICS, Gold
from warmup_distill.scoring.statistics import estimate
from warmup_distill.stages.session import Session

Decoding = Literal["greedy", "sampled"]
Drawn = list[list[Completion]]
"""For each prompt its completions."""


def longest(recipe: Recipe, benchmark: Benchmark) -> int:
    """Tokens of a completion at the most."""
    return benchmark.max_new_tokens or recipe.rollouts.max_new_tokens


class Evaluation:
    """One model, loaded, and all that is asked of it.

    Args:
        where: folder or name of the model.
        folder: for what is drawn, kept after an interruption.
        progress: hears of every token.
    """

    def __init__(self, session: Session, where: str, folder: Path, progress: Progress) -> None:
        self.session = session
        self.recipe = session.recipe
        self.folder = folder
        self.progress = progress
        self.known = [identity(where), session.recipe.dtype]
        self.engine = TransformersEngine(
            load_model(where, session.recipe.dtype),
            session.teacher,
            session.vocabulary,
            session.recipe.evaluate.batch_tokens,
            advance=progress.advance,
        )

    def on(
        self, benchmark: Benchmark, prompts: Sequence[Prompt]
    ) -> tuple[dict[str, Any], list[Prediction]]:
        """What a benchmark says of the model: means, and all predictions."""
        drawn: dict[Decoding, Drawn] = {
            "greedy": self._draw(benchmark, prompts, "greedy", range(1)),
            "sampled": self._sample(benchmark, prompts),
        }
        checked = self.recipe.evaluate.agreement_prompts
        distances = self._distances(benchmark, prompts[:checked], drawn["sampled"][:checked])
        result: dict[str, Any] = {
            "benchmark": benchmark.name,
            "metric": benchmark.metric,
            "prompts": len(prompts),
            "samples": self.recipe.evaluate.samples,
        }
        predictions: list[Prediction] = []
        for decoding, groups in drawn.items():
            known = _padded(distances if decoding == "sampled" else [], groups)
            scored = [
                [*self._predictions(benchmark, decoding, *one)]
                for one in zip(prompts, groups, known, strict=True)
            ]
            result[decoding] = _summary(scored)
            predictions += chain(*scored)
        return result | {"agreement": asdict(agreement([*chain(*distances)]))}, predictions

    def _sample(self, benchmark: Benchmark, prompts: Sequence[Prompt]) -> Drawn:
        """As many completions of each prompt as the recipe asks for.

        The first ones are drawn by themselves: in other company they could differ in the last bit.
        """
        samples = self.recipe.evaluate.samples
        first = self._draw(benchmark, prompts, "sampled", range(1))
        if samples == 1:
            return first
        more = self._draw(benchmark, prompts, "sampled", range(1, samples))
        return [[*a, *b] for a, b in zip(first, more, strict=True)]

    def _draw(
        self, benchmark: Benchmark, prompts: Sequence[Prompt], decoding: Decoding, numbers: range
    ) -> Drawn:
        """Of each prompt the completions with these numbers."""
        part = decoding if 0 in numbers else f"{decoding}-more"
        # Every model gets the same random numbers, so that differences between them are paired.
        return draw(
            self.engine,
            [prompt.prompt_ids for prompt in prompts],
            [[_stream(self.recipe.seed, one, number) for number in numbers] for one in prompts],
            self.folder / benchmark.name / part,
            self.progress,
            model=self.known,
            max_new_tokens=longest(self.recipe, benchmark),
            temperature=0.0 if decoding == "greedy" else 1.0,
        )

    def _distances(
        self, benchmark: Benchmark, prompts: Sequence[Prompt], drawn: Drawn
    ) -> list[list[Distance]]:
        """Of each completion how far the model is from the teacher on it."""
        ids = [
            [prompt.prompt_ids] * len(group) for prompt, group in zip(prompts, drawn, strict=True)
        ]
        found = measure_distances(
            self.engine.student,
            self.engine.teacher,
            [*chain(*ids)],
            [completion.completion_ids for completion in chain(*drawn)],
            margin_threshold=self.recipe.rollouts.margin_threshold,
            batch_tokens=self.recipe.evaluate.batch_tokens,
            advance=self.progress.advance,
        )
        self.progress.settle(len(found) * longest(self.recipe, benchmark))
        rest = iter(found)
        return [[*islice(rest, len(group))] for group in drawn]

    def _predictions(
        self,
        benchmark: Benchmark,
        decoding: Decoding,
        prompt: Prompt,
        drawn: Sequence[Completion],
        distances: Sequence[Distance | None],
    ) -> Iterator[Prediction]:
        metric = "gsm8k_strict" if benchmark.metric == "accuracy" else benchmark.metric
        gold = Gold(
            references=[] if prompt.reference is None else [prompt.reference], answer=prompt.answer
        )
        for number, (one, distance) in enumerate(zip(drawn, distances, strict=True)):
            text = decode_completion(self.session.tokenizer, one.completion_ids)
            yield Prediction(
                benchmark=benchmark.name,
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


def _stream(seed: int, prompt: Prompt, number: int) -> int:
    """The random numbers of a completion; the first one's name is older than the others."""
    names = (seed, "evaluate", prompt.prompt_id)
    return stream(*names, number) if number else stream(*names)


def _padded(distances: list[list[Distance]], groups: Drawn) -> list[Sequence[Distance | None]]:
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
