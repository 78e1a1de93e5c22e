"""One model on one suite: completions, scores with their errors, and a floor to hold them to."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from warmup_distill.engines.drawing import Drawing
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.wire import Address
from warmup_distill.errors import DataError
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Completion, FinishReason
from warmup_distill.scoring.metrics import METRICS
from warmup_distill.scoring.rouge import rouge_l
from warmup_distill.scoring.statistics import estimate
from warmup_distill.suites.catalogue import Suite, SuiteRow
from warmup_distill.suites.profiles import Profile, encode


@dataclass(frozen=True, kw_only=True)
class SuitePrediction:
    """One completion and one of its scores."""

    row_id: str
    seed: int
    metric: str
    prediction: str
    extracted: str | None
    value: float
    finish_reason: FinishReason


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model on one suite, asked every question once per seed of the profile.

    Args:
        renderer: of the profile, see `renderer_of`.
        context: tokens that the model reads.
    """

    model: ModelRef
    renderer: Renderer
    vocabulary: Vocabulary
    suite: Suite
    rows: Sequence[SuiteRow]
    profile: Profile
    context: int
    server: Address | None = None
    """Of vLLM, which holds the model; in process if absent."""

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Ids of every prompt."""
        return [encode(self.renderer, self.profile, row, self.suite.ask) for row in self.rows]

    @cached_property
    def asked(self) -> list[list[int]]:
        """Ids of as much of each prompt as the model is asked.

        Raises:
            DataError: a prompt and its completion do not fit into the model's context.
        """
        room = self.context - self.longest
        profile = replace(self.profile, max_new_tokens=self.longest)
        return _fitting(self.rows, self.prompts, profile, room)

    @property
    def longest(self) -> int:
        """Tokens of a completion at the most."""
        return self.profile.max_new_tokens or self.suite.max_new_tokens

    @property
    def most_tokens(self) -> int:
        """Tokens of all completions at the most."""
        return len(self.rows) * len(self.profile.seeds) * self.longest

    def drawing(self, batch_tokens: int) -> Drawing:
        """The completions to draw."""
        return Drawing(
            model=self.model,
            vocabulary=self.vocabulary,
            prompts=self.asked,
            streams=[[stream(seed, "suite", row.row_id) for seed in self.profile.seeds]
                     for row in self.rows],
            max_new_tokens=self.longest,
            temperature=self.profile.temperature,
            no_repeat_ngram_size=self.profile.no_repeat_ngram_size,
            batch_tokens=batch_tokens,
            server=self.server,
        )  # fmt: skip

    def result(
        self, drawn: Sequence[Sequence[Completion]]
    ) -> tuple[dict[str, Any], list[SuitePrediction]]:
        """What the suite says of the model.

        Args:
            drawn: the completions of `drawing`, for each row.

        Returns:
            A result with, for each metric, mean and standard error over rows (of the row's mean
            over seeds) and the mean of each seed; and all predictions.
        """
        predictions = [
            prediction
            for row, group in zip(self.rows, drawn, strict=True)
            for seed, one in zip(self.profile.seeds, group, strict=True)
            for prediction in self._score(row, seed, one)
        ]
        pairs = zip(self.prompts, self.asked, strict=True)
        counts = {
            "prompts_cut": sum(len(whole) > len(asked) for whole, asked in pairs),
            "completions_cut": sum(s.finish_reason == "length" for group in drawn for s in group),
            "completions": len(self.rows) * len(self.profile.seeds),
        }
        profile = replace(self.profile, max_new_tokens=self.longest)
        return _summed_up(self.suite, self.rows, profile, predictions, counts), predictions

    def _score(self, row: SuiteRow, seed: int, drawn: Completion) -> Iterator[SuitePrediction]:
        text = response(self.renderer.tokenizer, drawn.completion_ids)
        for name in self.suite.metrics:
            scored = METRICS[name](text, row.gold)
            yield SuitePrediction(
                row_id=row.row_id,
                seed=seed,
                metric=name,
                prediction=text,
                extracted=scored.extracted,
                value=scored.value,
                finish_reason=drawn.finish_reason,
            )


def _summed_up(
    suite: Suite,
    rows: Sequence[SuiteRow],
    profile: Profile,
    predictions: Sequence[SuitePrediction],
    counts: dict[str, int],
) -> dict[str, Any]:
    """How it was asked, the scores by metric, and the counts."""
    result: dict[str, Any] = {
        "profile": asdict(profile),
        "rows": len(rows),
        "scores": {name: _summary(predictions, name, profile) for name in suite.metrics},
    } | counts
    if "rouge_l" in suite.metrics:
        echoes = [rouge_l(row.prompt, row.gold.texts()) for row in rows]
        result["echo_of_the_prompt"] = asdict(estimate(echoes))
    return result


def response(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text that is scored, as MiniLLM's scripts clean it."""
    text = str(tokenizer.decode(ids, skip_special_tokens=True))
    return text.split("<|endoftext|>")[0].replace("<n>", "\n").strip()


def _summary(
    predictions: Sequence[SuitePrediction], metric: str, profile: Profile
) -> dict[str, Any]:
    values: dict[str, list[float]] = {}
    by_seed: dict[int, list[float]] = {seed: [] for seed in profile.seeds}
    for one in predictions:
        if one.metric == metric:
            values.setdefault(one.row_id, []).append(one.value)
            by_seed[one.seed].append(one.value)
    rows = [statistics.fmean(row) for row in values.values()]
    means = {str(seed): statistics.fmean(some) for seed, some in by_seed.items()}
    return asdict(estimate(rows)) | {"by_seed": means}


def _fitting(
    rows: Sequence[SuiteRow], prompts: Sequence[list[int]], profile: Profile, room: int
) -> list[list[int]]:
    """The prompts, cut to their first tokens where the profile cuts and the context has no more."""
    if room > 0 and profile.max_prompt_tokens is not None:
        return [ids[: min(room, profile.max_prompt_tokens)] for ids in prompts]
    advice = "a smaller --max-new-tokens"
    if room > 0:
        advice += ", or take the profile `paper`, which cuts prompts"
    for row, ids in zip(rows, prompts, strict=True):
        if len(ids) > room:
            raise DataError(
                f"the prompt {row.row_id} has {len(ids)} tokens, and beside "
                f"{profile.max_new_tokens} new ones the model's context has room for "
                f"{max(0, room)}. Give {advice}."
            )
    return list(prompts)
