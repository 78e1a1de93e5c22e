"""Tokens, memory and disk of a run, from sizes alone. Everything is a bound or a rule of thumb.

Bytes are counted in float32 for what is trained, in the recipe's dtype for what only runs.
"""

import statistics
from dataclasses import dataclass

from warmup_distill.models.renderer import Renderer
from warmup_distill.pipeline import stages_of
from warmup_distill.planning.costs import Lengths
from warmup_distill.planning.facts import DataFacts, Facts, ModelFacts
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.training import TrainSection
from warmup_distill.tree.packed import LOGITS_AT_ONCE

MOMENTS = 2
"""Numbers that AdamW keeps per weight."""
KEPT_CHECKPOINTS = 3
"""Two that are whole and one that is being written."""
LIVE_LOGITS = 8
"""Blocks of logits that a divergence and its gradient hold at one time."""
PROGRAM = 600 * 2**20
"""Python with torch and transformers, before any model."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of a run, at the most."""

    sampled: int
    continued: int
    distilled: int
    """Prompt and completion, over all epochs, each training once."""
    rows: int
    """Prompt and completion of all rows to distil on, once."""
    evaluated: int
    """New tokens of all models, greedy and sampled."""


def tokens(recipe: Recipe, facts: Facts, renderer: Renderer) -> Tokens:
    assert facts.data
    rollouts = recipe.rollouts
    count = len(facts.data.prompts[: rollouts.limit])
    lengths = _row_lengths(recipe, facts.data, renderer)
    sampled = count * rollouts.num_samples * rollouts.max_new_tokens
    asked = sum(
        len(found.prompts) * _longest(recipe, name) for name, found in facts.benchmarks.items()
    )
    return Tokens(
        sampled=sampled,
        continued=sampled,
        distilled=round(
            rows_trained(recipe.distill, len(lengths)) * sum(lengths) / max(1, len(lengths))
        ),
        rows=sum(lengths),
        evaluated=(1 + recipe.evaluate.samples) * models_evaluated(recipe) * asked,
    )


def lengths_at_most(recipe: Recipe, facts: Facts, renderer: Renderer) -> Lengths:
    """As if every completion was as long as it may be, and every one mismatched and made a pair."""
    assert facts.data
    settings, most = recipe.rollouts, recipe.rollouts.max_new_tokens
    prompt = statistics.fmean(facts.data.lengths)
    return Lengths(
        prompt=prompt,
        samples=settings.num_samples,
        completion=most,
        continuation=most,
        pair=prompt + 2 * most,
        row=statistics.fmean(_row_lengths(recipe, facts.data, renderer) or [0]),
        pairs_per_prompt=min(
            settings.num_samples, recipe.pairs.max_per_prompt or settings.num_samples
        ),
    )


def memory(recipe: Recipe, facts: Facts, sharded_over: int = 1) -> dict[str, int]:
    """Bytes of one worker at the peak of each stage that runs a model.

    Args:
        sharded_over: training processes that hold a share each of the trained weights, gradients
            and moments, as FSDP does.
    """
    assert facts.teacher and facts.student and facts.vocabulary and facts.data
    size = 4 if recipe.dtype == "float32" else 2
    teacher, student = facts.teacher.parameters * size, facts.student.parameters * size
    logits = LIVE_LOGITS * 4 * LOGITS_AT_ONCE
    cache = size * (facts.teacher.cache_numbers + facts.student.cache_numbers)
    longest = max(facts.data.lengths) + recipe.rollouts.max_new_tokens
    pair = longest + recipe.rollouts.max_new_tokens
    pair_tokens = max(
        pair, min(recipe.warmup.row_tokens, recipe.warmup.per_device_train_batch_size * pair)
    )
    watched = recipe.warmup.watch.prompts * longest
    distill_tokens = recipe.distill.per_device_train_batch_size * min(
        longest, recipe.distill.max_length
    )
    found = {
        "rollouts": teacher + student + cache * recipe.rollouts.batch_tokens + logits,
        "warmup": (teacher + cache * min(watched, recipe.rollouts.batch_tokens) if watched else 0)
        + _trained(facts.student, recipe.warmup, pair_tokens, sharded_over)
        + logits,
        "distill": teacher
        + _trained(facts.student, recipe.distill, distill_tokens, sharded_over)
        + logits,
        "evaluate": teacher + student + cache * recipe.evaluate.batch_tokens + logits,
    }
    if recipe.cut:
        found["cut"] = found["distill"]
    if recipe.control:
        found["control"] = found["distill"]
    order = stages_of(recipe)
    return {stage: PROGRAM + found[stage] for stage in order if stage in found}


def disk(recipe: Recipe, facts: Facts, counted: Tokens) -> dict[str, int]:
    """Bytes that a run writes, at the most, by kind."""
    assert facts.teacher and facts.student and facts.data
    model = 4 * facts.student.parameters
    trainings = 2 + recipe.control + (recipe.cut is not None)
    prompt_tokens = sum(facts.data.lengths)
    pair_prompts = prompt_tokens * recipe.rollouts.num_samples
    found = {
        "rollouts and pairs": 12 * (counted.sampled + counted.continued)
        + 8 * (counted.sampled + counted.continued + pair_prompts),
        "models": trainings * model,
        "checkpoints, removed at the end": KEPT_CHECKPOINTS * (1 + MOMENTS) * model,
        "predictions": 6 * counted.evaluated,
    }
    if recipe.warmup.watch.prompts:
        found["the warm-up's best points, removed at the end"] = (KEPT_CHECKPOINTS + 1) * model
    kept = [one for one in (recipe.distill, recipe.cut) if one and one.teacher_signal != "live"]
    for section in kept:
        hidden = section.teacher_signal == "hidden"
        numbers = facts.teacher.width if hidden else 2 * section.top_k + 1
        name = f"the teacher's signal for {'cut' if section is recipe.cut else 'distill'}"
        found[name] = 4 * numbers * counted.rows
    return found


def _trained(
    model: ModelFacts, section: TrainSection, tokens_at_once: int, sharded_over: int
) -> int:
    """Weights, gradients, moments, and what the backward pass needs of each token.

    Where they are sharded, the embedding and two layers, one that runs and one that comes next,
    are whole for the time being.
    """
    weights = 4 * model.parameters * (1 if section.lora else 2 + MOMENTS)
    if sharded_over > 1:
        embedding = model.head_rows * model.width
        layer = (model.multiplied - embedding) // model.layers
        weights = weights // sharded_over + 4 * (embedding + 2 * layer)
    per_layer = 4 * (10 * model.width + 4 * model.inner_width)
    kept = model.width * 4 if section.activation_checkpointing else per_layer
    return weights + tokens_at_once * (kept * model.layers + per_layer)


def rows_trained(section: TrainSection, rows: float) -> float:
    """Rows that go through a training, over all its steps."""
    if section.max_steps is None:
        return rows * section.num_train_epochs
    per_step = section.per_device_train_batch_size * section.gradient_accumulation_steps
    return float(section.max_steps * per_step)


def _row_lengths(recipe: Recipe, data: DataFacts, renderer: Renderer) -> list[int]:
    """Tokens of each row to distil on."""
    section = recipe.distill
    drawn = section.completions.max_new_tokens or recipe.rollouts.max_new_tokens
    if section.completions.source == "teacher" or section.completions.student_share == 1:
        return [min(section.max_length, length + drawn) for length in data.lengths]
    return [
        min(section.max_length, len(row.prompt_ids) + len(renderer.reference(text)))
        for row in data.prompts
        if (text := row.reference) is not None
    ]


def models_evaluated(recipe: Recipe) -> int:
    return 3 + recipe.control


def _longest(recipe: Recipe, name: str) -> int:
    (benchmark,) = [one for one in recipe.evaluate.benchmarks if one.name == name]
    return benchmark.max_new_tokens or recipe.rollouts.max_new_tokens
