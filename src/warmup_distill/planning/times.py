"""Seconds of each stage, from what was measured of one completion, one pair and one row."""

import math

from warmup_distill.config import Recipe
from warmup_distill.config.distillation import DistillSection
from warmup_distill.config.training import TrainSection
from warmup_distill.planning.facts import Facts
from warmup_distill.planning.measuring import Costs
from warmup_distill.stages.evaluate import DECODINGS
from warmup_distill.training.watch import hold_out


def times(recipe: Recipe, facts: Facts, costs: Costs) -> dict[str, float]:
    """Seconds of each stage that runs a model."""
    assert facts.data
    count = len(facts.data.prompts[: recipe.rollouts.limit])
    completion = costs.drawing + costs.checking
    found = {
        "cut": _distilling(recipe.cut, facts, costs) if recipe.cut and recipe.cut.heal else 0.0,
        "rollouts": completion * count * recipe.rollouts.num_samples,
        "warmup": _warming_up(recipe, facts, costs),
        "distill": _distilling(recipe.distill, facts, costs),
        "control": _controlling(recipe, facts, costs) if recipe.control else 0.0,
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
    trained = _rows_trained(section, pairs)
    steps = trained / (section.per_device_train_batch_size * section.gradient_accumulation_steps)
    held_out = len(hold_out(section.watch, prompts, limit))
    examined = held_out * (1 + math.ceil(steps / section.watch.steps))
    return costs.pair * trained + (costs.drawing + costs.checking) * examined


def _distilling(section: DistillSection, facts: Facts, costs: Costs) -> float:
    """The steps, and what is drawn for them."""
    assert facts.data and facts.teacher and facts.student
    count = len(facts.data.prompts)
    trained = _rows_trained(section, count)
    completions = section.completions
    share = completions.adaptive.start if completions.adaptive else completions.student_share
    return costs.row * trained + costs.drawing * share * trained + _taught(section, facts, costs)


def _controlling(recipe: Recipe, facts: Facts, costs: Costs) -> float:
    """As the distillation, whose completions by the teacher are there already."""
    section = recipe.distill
    return _distilling(section, facts, costs) - _taught(section, facts, costs)


def _taught(section: DistillSection, facts: Facts, costs: Costs) -> float:
    """The teacher's completions."""
    assert facts.data and facts.teacher and facts.student
    if section.completions.source != "teacher":
        return 0.0
    larger = facts.teacher.parameters / facts.student.parameters
    return costs.drawing * len(facts.data.prompts) * larger


def _evaluating(recipe: Recipe, facts: Facts, costs: Costs) -> float:
    """All models draw twice, and are held to the teacher once."""
    models = 3 + recipe.control
    asked = [len(found.prompts) for found in facts.benchmarks.values()]
    drawn = len(DECODINGS) * sum(asked)
    checked = sum(min(count, recipe.evaluate.agreement_prompts) for count in asked)
    return models * (costs.drawing * drawn + costs.checking * checked)


def _rows_trained(section: TrainSection, rows: float) -> float:
    """Rows that go through a training, over all its steps."""
    if section.max_steps is None:
        return rows * section.num_train_epochs
    per_step = section.per_device_train_batch_size * section.gradient_accumulation_steps
    return float(section.max_steps * per_step)
