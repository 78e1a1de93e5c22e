"""One model on one suite: completions, scores with their errors, and a floor to hold them to."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from warmup_distill.cluster.places import Place
from warmup_distill.engines.batching import Batching
from warmup_distill.engines.drawing import Drawing, draw_fitting
from warmup_distill.engines.progress import Progress
from warmup_distill.engines.randomness import stream
from warmup_distill.errors import DataError
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import FinishReason
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


def evaluate_suite(
    place: Place,
    model: ModelRef,
    renderer: Renderer,
    vocabulary: Vocabulary,
    suite: Suite,
    rows: Sequence[SuiteRow],
    profile: Profile,
    folder: Path,
    progress: Progress,
    *,
    context: int,
    batching: Batching,
) -> tuple[dict[str, Any], list[SuitePrediction]]:
    """Ask a model every question once per seed of the profile, and score what it says.

    Args:
        renderer: of the profile, see `renderer_of`.
        folder: for what is drawn, kept after an interruption.
        progress: hears of every token.
        context: tokens that the model reads.

    Returns:
        A result with, for each metric, mean and standard error over rows (of the row's mean over
        seeds) and the mean of each seed; and all predictions.

    Raises:
        DataError: a prompt and its completion do not fit into the model's context.
    """
    new_tokens = longest(profile, suite)
    profile = replace(profile, max_new_tokens=new_tokens)
    prompts, kept = put(renderer, profile, suite, rows, context)
    wanted = Drawing(
        model=model,
        vocabulary=vocabulary,
        prompts=kept,
        streams=[[stream(seed, "suite", row.row_id) for seed in profile.seeds] for row in rows],
        max_new_tokens=new_tokens,
        temperature=profile.temperature,
        no_repeat_ngram_size=profile.no_repeat_ngram_size,
        batch_tokens=batching.chosen.tokens,
    )
    drawn = draw_fitting(place, wanted, folder, progress, batching)
    predictions = [
        prediction
        for row, group in zip(rows, drawn, strict=True)
        for seed, one in zip(profile.seeds, group, strict=True)
        for prediction in _score(
            suite, row, seed, response(renderer.tokenizer, one.completion_ids), one.finish_reason
        )
    ]
    counts = {
        "prompts_cut": sum(len(a) > len(b) for a, b in zip(prompts, kept, strict=True)),
        "completions_cut": sum(s.finish_reason == "length" for group in drawn for s in group),
        "completions": len(rows) * len(profile.seeds),
    }
    return _summed_up(suite, rows, profile, predictions, counts), predictions


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


def longest(profile: Profile, suite: Suite) -> int:
    """Tokens of a completion at the most."""
    return profile.max_new_tokens or suite.max_new_tokens


def put(
    renderer: Renderer, profile: Profile, suite: Suite, rows: Sequence[SuiteRow], context: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of every prompt, and of as much of it as a model is asked.

    Args:
        context: tokens that the model reads.

    Raises:
        DataError: a prompt and its completion do not fit into it.
    """
    profile = replace(profile, max_new_tokens=longest(profile, suite))
    prompts = [encode(renderer, profile, row, suite.ask) for row in rows]
    return prompts, _fitting(rows, prompts, profile, context - longest(profile, suite))


def response(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text that is scored, as MiniLLM's scripts clean it."""
    text = str(tokenizer.decode(ids, skip_special_tokens=True))
    return text.split("<|endoftext|>")[0].replace("<n>", "\n").strip()


def _score(
    suite: Suite, row: SuiteRow, seed: int, text: str, finish_reason: FinishReason
) -> list[SuitePrediction]:
    found = []
    for name in suite.metrics:
        scored = METRICS[name](text, row.gold)
        found.append(
            SuitePrediction(
                row_id=row.row_id,
                seed=seed,
                metric=name,
                prediction=text,
                extracted=scored.extracted,
                value=scored.value,
                finish_reason=finish_reason,
            )
        )
    return found


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
