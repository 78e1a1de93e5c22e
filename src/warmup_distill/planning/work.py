"""The work of each stage, in pieces that workers can share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from warmup_distill.planning.costs import Costs, Lengths
from warmup_distill.planning.estimates import (
    models_evaluated,
    rows_distilled,
    rows_trained,
    tokens_at_once,
)
from warmup_distill.planning.facts import Facts
from warmup_distill.planning.limits import operations
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.controls import stages_of
from warmup_distill.recipe.distillation import DistillSection
from warmup_distill.recipe.training import TrainSection
from warmup_distill.stages.evaluation import longest
from warmup_distill.training.watch import hold_out
from warmup_distill.tree.pack import batches_by_size


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Parts that know nothing of one another, in the order in which they are sent."""

    costs: Sequence[float]

    @property
    def total(self) -> float:
        """Of all of them."""
        return sum(self.costs)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Optimizer steps, each of which all training processes share."""

    count: int
    total: float
    """Of all steps together, in one process."""
    batch: int
    """Rows of a step."""


Piece = Parts | Steps


def totals(recipe: Recipe, facts: Facts, costs: Costs, lengths: Lengths) -> dict[str, float]:
    """What each stage that runs a model costs, in the unit of the costs; arguments as of `work`."""
    return {
        stage: sum(piece.total for piece in pieces)
        for stage, pieces in work(recipe, facts, costs, lengths).items()
    }


def work(recipe: Recipe, facts: Facts, costs: Costs, lengths: Lengths) -> dict[str, list[Piece]]:
    """The pieces of each stage that runs a model; a piece begins when the one before it is done.

    A teacher's signal that is kept on disk counts as if it was made in every step.

    Args:
        costs: in any unit.
        lengths: by which operations are counted, where a control is to take as many.
    """
    found = _to_distill(recipe, facts, costs)
    distilling = found["distill"][-1]
    assert isinstance(distilling, Steps)
    found |= _controls(recipe, facts, costs, lengths, distilling)
    found["evaluate"] = _evaluating(recipe, facts, costs)
    return {stage: some for stage, some in found.items() if sum(one.total for one in some)}


def _to_distill(recipe: Recipe, facts: Facts, costs: Costs) -> dict[str, list[Piece]]:
    """The stages that lead to the student that is warmed up and distilled."""
    healing = recipe.cut if recipe.cut and recipe.cut.heal else None
    return {
        "cut": [*_taught(healing, recipe, facts, costs), _distilling(healing, recipe, facts, costs)]
        if healing
        else [],
        "rollouts": [_rolling_out(recipe, facts, costs)],
        "warmup": _warming_up(recipe, facts, costs),
        "distill": [
            *_taught(recipe.distill, recipe, facts, costs),
            _distilling(recipe.distill, recipe, facts, costs),
        ],
    }


def _controls(
    recipe: Recipe, facts: Facts, costs: Costs, lengths: Lengths, distilling: Steps
) -> dict[str, list[Piece]]:
    """The stages of the controls; those that distil have the same teacher's completions.

    Args:
        distilling: the steps of the student that is warmed up.
    """
    asked = stages_of(recipe.controls)
    pieces: dict[str, list[Piece]] = {stage: [distilling] for stage in asked}
    if not {"control_compute", "cold_start"}.intersection(asked):
        return pieces
    counted = operations(recipe, facts, lengths)
    budget = _warmup_adds(recipe, _to_distill(recipe, facts, counted))
    times = 1 + budget / _distilling(recipe.distill, recipe, facts, counted).total
    longer = replace(
        distilling, count=round(distilling.count * times), total=distilling.total * times
    )
    others: dict[str, list[Piece]] = {
        "control_compute": [longer],
        "cold_start": _starting_cold(recipe, facts, costs, lengths, budget),
    }
    return {stage: others.get(stage, some) for stage, some in pieces.items()}


def _warmup_adds(recipe: Recipe, found: dict[str, list[Piece]]) -> float:
    """What the warm-up adds to a distillation, which may need the rollouts without it too."""
    rolled = recipe.distill.completions.source == "rollouts"
    stages = ["warmup"] if rolled else ["rollouts", "warmup"]
    return sum(piece.total for stage in stages for piece in found[stage])


def _starting_cold(
    recipe: Recipe, facts: Facts, costs: Costs, lengths: Lengths, budget: float
) -> list[Piece]:
    """The teacher's completions for half of the operations or less, and steps for the others."""
    assert facts.data
    if not budget:
        return []
    settings = recipe.rollouts
    alone = recipe.distill.model_copy(update={"objective": "sft"})
    counted = operations(recipe, facts, lengths)
    row = operations(recipe.model_copy(update={"distill": alone}), facts, lengths).row
    prompts = [len(prompt.prompt_ids) for prompt in facts.data.prompts[: settings.limit]]
    draw = counted.teaching * len(prompts)
    times = min(settings.num_samples, max(1, math.ceil(budget / 2 / draw)))
    left = max(0.0, budget - times * draw)
    batches = _batches(
        prompts, settings.max_new_tokens, tokens_at_once(settings.batch_tokens, recipe, facts)
    )
    drawn = Parts(costs=[costs.teaching * size for size in batches] * times)
    return [drawn, _steps(alone, left / row, costs.row * row / counted.row)]


def _rolling_out(recipe: Recipe, facts: Facts, costs: Costs) -> Parts:
    assert facts.data
    settings = recipe.rollouts
    count, size = len(facts.data.prompts[: settings.limit]), settings.prompts_per_part
    groups = [min(size, count - start) for start in range(0, count, size)]
    completion = costs.drawing + costs.checking + costs.continuing
    return Parts(costs=[completion * settings.num_samples * group for group in groups])


def _warming_up(recipe: Recipe, facts: Facts, costs: Costs) -> list[Piece]:
    """The steps; and the examinations before, between and after them, which are not shared."""
    assert facts.data
    section, prompts, limit = recipe.warmup, facts.data.prompts, recipe.rollouts.limit
    pairs = costs.pairs_per_prompt * len(prompts[:limit])
    if not pairs:
        return []
    steps = _steps(section, rows_trained(section, pairs), costs.pair)
    held_out = len(hold_out(section.watch, prompts, limit))
    examined = held_out * (1 + math.ceil(steps.count / section.watch.steps))
    return [steps, Parts(costs=[(costs.drawing + costs.checking) * examined])]


def _distilling(section: DistillSection, recipe: Recipe, facts: Facts, costs: Costs) -> Steps:
    """The steps, and what the student draws for them."""
    assert facts.data
    rows = rows_distilled(section, recipe, len(facts.data.prompts))
    trained = rows_trained(section, rows)
    return _steps(section, trained, costs.row + costs.drawing * _drawn_share(section))


def _drawn_share(section: DistillSection) -> float:
    completions = section.completions
    return completions.adaptive.start if completions.adaptive else completions.student_share


def _steps(section: TrainSection, trained: float, row: float) -> Steps:
    batch = section.per_device_train_batch_size * section.gradient_accumulation_steps
    return Steps(count=math.ceil(trained / batch), total=row * trained, batch=batch)


def _taught(section: DistillSection, recipe: Recipe, facts: Facts, costs: Costs) -> list[Piece]:
    """The teacher's completions."""
    assert facts.data
    if section.completions.source != "teacher":
        return []
    most = section.completions.max_new_tokens or recipe.rollouts.max_new_tokens
    batches = _batches(
        facts.data.lengths, most, tokens_at_once(recipe.rollouts.batch_tokens, recipe, facts)
    )
    return [Parts(costs=[costs.teaching * size for size in batches])]


def _evaluating(recipe: Recipe, facts: Facts, costs: Costs) -> list[Piece]:
    """All models draw greedily and sample, and then the teacher checks some of the samples."""
    section, drawn, checked = recipe.evaluate, list[float](), list[float]()
    at_once = tokens_at_once(section.batch_tokens, recipe, facts)
    for benchmark in section.benchmarks:
        if benchmark.name not in facts.benchmarks:
            continue
        lengths = [len(one.prompt_ids) for one in facts.benchmarks[benchmark.name].prompts]
        most = longest(recipe, benchmark)
        for count in filter(None, (1, 1, section.samples - 1)):  # greedy, sampled, sampled more
            batches = _batches(lengths, count * most, at_once)
            drawn += [costs.drawing * count * size for size in batches]
        samples = lengths[: section.agreement_prompts] * section.samples
        checked += [costs.checking * size for size in _batches(samples, most, at_once)]
    models = models_evaluated(recipe)
    return [Parts(costs=drawn * models), Parts(costs=checked * models)]


def _batches(prompts: Sequence[int], most: int, room: int) -> list[int]:
    """How many prompts are drawn for, or checked, together."""
    return [len(batch) for batch in batches_by_size([one + most for one in prompts], room)]
