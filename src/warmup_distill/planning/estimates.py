"""Tokens, memory and disk of a run, from sizes alone. Everything is a bound or a rule of thumb.

Bytes are counted in float32 for what is trained, in the recipe's dtype for what only runs.
"""

import statistics
from dataclasses import dataclass

from warmup_distill.engines.fitting import (
    LIVE_LOGITS,
    MOMENTS,
    MOST_IN_A_PASS,
    Needs,
    Texts,
    fitting,
    trained_bytes,
)
from warmup_distill.models.holding import Held
from warmup_distill.models.loading import dtype_named
from warmup_distill.models.memory import Memory, memory_of
from warmup_distill.models.renderer import Renderer
from warmup_distill.pipeline import stages_of
from warmup_distill.planning.costs import Lengths
from warmup_distill.planning.devices import DEVICES
from warmup_distill.planning.facts import DataFacts, Facts, ModelFacts
from warmup_distill.recipe import DistillSection, Recipe
from warmup_distill.recipe.batches import holders
from warmup_distill.recipe.controls import models_of
from warmup_distill.recipe.controls import stages_of as stages_of_controls
from warmup_distill.recipe.section import TokenCount
from warmup_distill.recipe.training import TrainSection
from warmup_distill.tree.packed import LOGITS_AT_ONCE

KEPT_CHECKPOINTS = 3
"""Two that are whole and one that is being written."""
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
            and moments, as FSDP does, whatever the recipe says.
    """
    assert facts.teacher and facts.student and facts.vocabulary and facts.data

    def over(section: TrainSection) -> int:
        return max(sharded_over, holders(recipe, section))

    needs = _needs(recipe, facts)
    models = sum(one.weights for one in needs)
    cache = sum(one.kept for one in needs)
    logits = LIVE_LOGITS * 4 * LOGITS_AT_ONCE
    longest = max(facts.data.lengths) + recipe.rollouts.max_new_tokens
    pair = longest + recipe.rollouts.max_new_tokens
    pairs = recipe.warmup.per_device_train_batch_size * pair
    pair_tokens = max(pair, min(row_tokens(recipe.warmup), pairs))
    rollouts = tokens_at_once(recipe.rollouts.batch_tokens, recipe, facts)
    evaluated = tokens_at_once(recipe.evaluate.batch_tokens, recipe, facts)
    watched = min(recipe.warmup.watch.prompts * longest, rollouts)
    found = {
        "rollouts": models + cache * rollouts + logits,
        "warmup": (needs[0].weights + cache * watched if watched else 0)
        + _trained(facts.student, recipe.warmup, pair_tokens, over(recipe.warmup))
        + logits,
        "distill": _distilled(recipe.distill, facts, needs[0], longest, over(recipe.distill))
        + logits,
        "evaluate": models + cache * evaluated + logits,
    }
    if recipe.cut:
        found["cut"] = _distilled(recipe.cut, facts, needs[0], longest, over(recipe.cut)) + logits
    found |= dict.fromkeys(stages_of_controls(recipe.controls), found["distill"])
    order = stages_of(recipe)
    return {stage: PROGRAM + found[stage] for stage in order if stage in found}


def row_tokens(section: TrainSection) -> int:
    """Tokens of a packed row at the most; where memory is short, `auto` takes fewer."""
    return MOST_IN_A_PASS if section.row_tokens == "auto" else section.row_tokens


def tokens_at_once(asked: TokenCount, recipe: Recipe, facts: Facts) -> int:
    """Tokens whose keys and values are in memory together.

    `auto` is as many as fit into the device that the recipe names, or else into what is here.
    """
    if asked != "auto":
        return asked
    name = recipe.cluster.device if recipe.cluster else None
    free = Memory(device=name, free=DEVICES[name].memory) if name else memory_of(Held())
    assert facts.data
    settings = recipe.rollouts
    ids = [prompt.prompt_ids for prompt in facts.data.prompts]
    texts = Texts.of(ids, settings.max_new_tokens, settings.num_samples)
    return fitting(free, _needs(recipe, facts), texts).tokens


def bytes_each(recipe: Recipe) -> tuple[int, int]:
    """Bytes of a number of the teacher, and of the student where it only runs."""
    teacher, student = recipe.teacher_dtype or recipe.dtype, recipe.dtype
    return dtype_named(teacher).itemsize, dtype_named(student).itemsize


def _needs(recipe: Recipe, facts: Facts) -> tuple[Needs, Needs]:
    """Of teacher and student."""
    assert facts.teacher and facts.student
    sizes, each = (facts.teacher, facts.student), bytes_each(recipe)
    teacher, student = (
        Needs.of(one, size, size * one.parameters) for one, size in zip(sizes, each, strict=True)
    )
    return teacher, student


def _distilled(
    section: DistillSection, facts: Facts, teacher: Needs, longest: int, sharded_over: int
) -> int:
    """The teacher is there too, unless its signal is on disk, which it writes by itself."""
    assert facts.student
    longest = min(longest, section.max_length)
    batch = max(longest, min(row_tokens(section), section.per_device_train_batch_size * longest))
    trained = _trained(facts.student, section, batch, sharded_over)
    live = section.teacher_signal == "live" and section.objective != "sft"
    return teacher.weights + trained if live else max(teacher.weights, trained)


def disk(recipe: Recipe, facts: Facts, counted: Tokens) -> dict[str, int]:
    """Bytes that a run writes, at the most, by kind."""
    assert facts.teacher and facts.student and facts.data
    model = 4 * facts.student.parameters
    trainings = 2 + len(stages_of_controls(recipe.controls)) + (recipe.cut is not None)
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
    return found | _signals(recipe, facts, counted)


def _signals(recipe: Recipe, facts: Facts, counted: Tokens) -> dict[str, int]:
    """Bytes of the teacher's signals on disk."""
    assert facts.teacher and facts.data
    wanted: dict[str, tuple[DistillSection, int]] = {"distill": (recipe.distill, counted.rows)}
    if recipe.cut:
        wanted["cut"] = recipe.cut, counted.rows
    if "corrected" in recipe.controls:
        corrected = sum(_corrected_lengths(recipe, facts.data))
        wanted["control_corrected"] = recipe.distill, corrected
    found = {}
    for name, (section, tokens) in wanted.items():
        hidden = section.teacher_signal == "hidden"
        numbers = facts.teacher.width if hidden else 2 * section.top_k + 1
        if section.teacher_signal != "live":
            found[f"the teacher's signal for {name}"] = 4 * numbers * tokens
    return found


def _trained(
    model: ModelFacts, section: TrainSection, tokens_at_once: int, sharded_over: int
) -> int:
    """Weights, gradients, moments, and what the backward pass needs of each token."""
    kept = model.kept_for_gradients(section.activation_checkpointing)
    return trained_bytes(model, section, sharded_over) + 4 * tokens_at_once * kept


def rows_trained(section: TrainSection, rows: float) -> float:
    """Rows that go through a training, over all its steps."""
    if section.max_steps is None:
        return rows * section.num_train_epochs
    per_step = section.per_device_train_batch_size * section.gradient_accumulation_steps
    return float(section.max_steps * per_step)


def rows_distilled(section: DistillSection, recipe: Recipe, prompts: int) -> int:
    """Rows to distil on, of so many prompts, if none is left out."""
    if section.completions.source != "rollouts":
        return prompts
    return min(prompts, recipe.rollouts.limit or prompts) * recipe.rollouts.num_samples


def _corrected_lengths(recipe: Recipe, data: DataFacts) -> list[int]:
    """Tokens of each prompt with a completion of the rollouts, at the most."""
    section, rollouts = recipe.distill, recipe.rollouts
    rolled = [len(one.prompt_ids) for one in data.prompts[: rollouts.limit]]
    longest = [min(section.max_length, one + rollouts.max_new_tokens) for one in rolled]
    return longest * rollouts.num_samples


def _row_lengths(recipe: Recipe, data: DataFacts, renderer: Renderer) -> list[int]:
    """Tokens of each row to distil on."""
    section, rollouts = recipe.distill, recipe.rollouts
    drawn = section.completions.max_new_tokens or rollouts.max_new_tokens
    if section.completions.source == "rollouts":
        return _corrected_lengths(recipe, data)
    if section.completions.source == "teacher" or section.completions.student_share == 1:
        return [min(section.max_length, length + drawn) for length in data.lengths]
    return [
        min(section.max_length, len(row.prompt_ids) + len(renderer.reference(text)))
        for row in data.prompts
        if (text := row.reference) is not None
    ]


def models_evaluated(recipe: Recipe) -> int:
    return len(models_of(recipe.controls))


def _longest(recipe: Recipe, name: str) -> int:
    (benchmark,) = [one for one in recipe.evaluate.benchmarks if one.name == name]
    return benchmark.max_new_tokens or recipe.rollouts.max_new_tokens
