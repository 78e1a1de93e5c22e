"""Seconds of each stage, from what was measured of one completion, one pair and one row."""

import math

from warmup_distill.planning.estimates import models_evaluated, rows_trained
from warmup_distill.planning.facts import Facts
from warmup_distill.planning.measuring import Costs
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.distillation import DistillSection
from warmup_distill.training.watch import hold_out


def times(recipe: Recipe, facts: Facts, costs: Costs) -> dict[str, float]:
    """Seconds of each stage that runs a model."""
    assert facts.data
    count = len(facts.data.prompts[: recipe.rollouts.limit])
    completion = costs.drawing + costs.checking
    healing = recipe.cut if recipe.cut and recipe.cut.heal else None
    distilling = _distilling(recipe.distill, facts, costs)
    found = {
        "cut": _distilling(healing, facts, costs) + _taught(healing, facts, costs)
        if healing
        else 0.0,
        "rollouts": completion * count * recipe.rollouts.num_samples,
        "warmup": _warming_up(recipe, facts, costs),
        "distill": distilling + _taught(recipe.distill, facts, costs),
        "control": distilling if recipe.control else 0.0,  # with the same teacher's completions
        "evaluate": _evaluating(recipe, facts, costs),
    }
    return {stage: seconds for stage, seconds in found.items() if seconds}


def _warming_up(recipe: Recipe, facts: Facts, costs: Costs) -> float:
    """The steps, and the examinations before, between and after them."""
    assert facts.data
    section, prompts, limit = recipe.warmup, facts.data.prompts, recipe.rollouts.limit
    pairs = costs.pairs_per_prompt * len(prompts[:limit])
    if not pairs:
        return 0.0
    trained = rows_trained(section, pairs)
    steps = trained / (section.per_device_train_batch_size * section.gradient_accumulation_steps)
    held_out = len(hold_out(section.watch, prompts, limit))
    examined = held_out * (1 + math.ceil(steps / section.watch.steps))
    return costs.pair * trained + (costs.drawing + costs.checking) * examined


def _distilling(section: DistillSection, facts: Facts, costs: Costs) -> float:
    """The steps, and what the student draws for them."""
    assert facts.data
    trained = rows_trained(section, len(facts.data.prompts))
    completions = section.completions
    share = completions.adaptive.start if completions.adaptive else completions.student_share
    return costs.row * trained + costs.drawing * share * trained


def _taught(section: DistillSection, facts: Facts, costs: Costs) -> float:
    """The teacher's completions."""
    assert facts.data and facts.teacher and facts.student
    if section.completions.source != "teacher":
        return 0.0
    larger = facts.teacher.parameters / facts.student.parameters
    return costs.drawing * len(facts.data.prompts) * larger


def _evaluating(recipe: Recipe, facts: Facts, costs: Costs) -> float:
    """All models draw greedily and sample, and the teacher checks some of the samples."""
    asked = [len(found.prompts) for found in facts.benchmarks.values()]
    samples = recipe.evaluate.samples
    drawn = (1 + samples) * sum(asked)
    checked = samples * sum(min(count, recipe.evaluate.agreement_prompts) for count in asked)
    return models_evaluated(recipe) * (costs.drawing * drawn + costs.checking * checked)
