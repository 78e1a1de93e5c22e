"""A run on some workers: how long each stage takes, what bounds it, and where that stops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from warmup_distill.planning.devices import Device
from warmup_distill.planning.estimates import bytes_each, models_evaluated
from warmup_distill.planning.facts import Facts, ModelFacts
from warmup_distill.planning.limits import Shares
from warmup_distill.planning.simulation import (
    Dispatched,
    Luck,
    all_reduce,
    dispatch,
    train,
    undisturbed,
)
from warmup_distill.planning.work import Parts, Piece, Steps
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.batches import most_processes
from warmup_distill.recipe.cluster import MOST_WORKERS, ClusterSection
from warmup_distill.recipe.controls import stages_of
from warmup_distill.recipe.training import TrainSection

STARTING = 5.0
"""Seconds until a worker's process is there; 3 to 7 on two cores."""
READING = 1e9
"""Bytes of weights that a worker reads in a second; assumed."""
MACHINE = 8
"""Workers of one machine; assumed."""
UPDATED = 28
"""Bytes per trained weight that AdamW moves in a step: reads weight, gradient and two moments, and
writes all but the gradient, in float32."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What workers move, and how fast; bytes, and bytes per second."""

    loaded: Mapping[str, float]
    """Weights that each worker reads, by stage."""
    gradients: Mapping[str, float]
    """What is exchanged in each optimizer step, by stage."""
    update: Mapping[str, float]
    """Seconds of the optimizer in each step, by stage."""
    link: float
    """In one machine."""
    network: float
    """Between machines."""

    def startup(self, stage: str) -> float:
        """Seconds until a worker has its models."""
        return STARTING + self.loaded[stage] / READING

    def exchange(self, stage: str, processes: int) -> float:
        """Seconds of the all-reduce of a step."""
        rate = self.link if processes <= MACHINE else min(self.link, self.network)
        return all_reduce(self.gradients[stage], processes, rate)


def terms(
    recipe: Recipe, facts: Facts, cluster: ClusterSection, device: Device | None, shares: Shares
) -> Terms:
    """Of a recipe on workers that have a device; without one, all that is exchanged takes the
    network, and the optimizer's update is part of what a row costs."""
    assert facts.teacher and facts.student
    teacher_bytes, student_bytes = bytes_each(recipe)
    student, teacher = (
        student_bytes * facts.student.parameters,
        teacher_bytes * facts.teacher.parameters,
    )
    taught = student + (0 if recipe.distill.objective == "sft" else teacher)
    sections: dict[str, TrainSection] = {"warmup": recipe.warmup, "distill": recipe.distill}
    controls = stages_of(recipe.controls)
    sections |= dict.fromkeys(controls, recipe.distill)
    sections |= {"cut": recipe.cut} if recipe.cut else {}
    trained = {stage: _trained(facts.student, section) for stage, section in sections.items()}
    network = cluster.network_gigabits * 1e9 / 8
    return Terms(
        loaded={
            "cut": student + teacher,
            "rollouts": student + teacher,
            "warmup": student + (teacher if recipe.warmup.watch.prompts else 0),
            "distill": taught,
            **dict.fromkeys(controls, taught),
            "evaluate": models_evaluated(recipe) * student + teacher,
        },
        gradients={stage: 4 * numbers for stage, numbers in trained.items()},
        update={
            stage: UPDATED * numbers / device.bandwidth if device else 0.0
            for stage, numbers in trained.items()
        },
        link=(device.link if device else network) * shares.exchanging,
        network=network * shares.exchanging,
    )


def _trained(model: ModelFacts, section: TrainSection) -> int:
    """Numbers that have a gradient; of adapters about so many."""
    if section.lora is None:
        return model.parameters
    seven = 8 * model.width + 3 * (model.width + model.inner_width)  # rows and columns of a layer
    return section.lora.r * model.layers * seven


def spread(
    stage: str, pieces: Sequence[Piece], workers: int, given: Terms, luck: Luck = undisturbed
) -> list[Dispatched]:
    """What becomes of each piece of a stage on some workers, one after the other.

    The first piece waits for the workers to start. A training takes as many workers as its batch
    can be shared among evenly; whatever befalls parts, it is not disturbed.
    """
    found, startup = list[Dispatched](), given.startup(stage)
    for piece in pieces:
        if isinstance(piece, Parts):
            restart = given.startup(stage)
            one = dispatch(piece.costs, workers, startup=startup, restart=restart, luck=luck)
        else:
            processes = most_processes(piece.batch, workers)
            seconds = startup + training_seconds(stage, piece, processes, given)
            one = Dispatched(wall=seconds, lost=0)
        found.append(one)
        startup = 0.0
    return found


def training_seconds(stage: str, piece: Steps, processes: int, given: Terms) -> float:
    """Seconds of a training once its processes have their models."""
    return train(
        piece.count,
        piece.total,
        processes,
        update=given.update[stage],
        exchange=given.exchange(stage, processes),
    )


def fastest(stage: str, piece: Steps, given: Terms) -> int:
    """The number of processes, of those that share the batch evenly, that is done first."""
    numbers = range(1, min(piece.batch, MOST_WORKERS) + 1)
    shared = [count for count in numbers if piece.batch % count == 0]
    return min(shared, key=lambda count: training_seconds(stage, piece, count, given))
