"""What is expected of a run on workers: where the numbers come from, and those of each stage."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from warmup_distill.planning import limits
from warmup_distill.planning.costs import Costs, Lengths
from warmup_distill.planning.devices import DEVICES, Device, is_called
from warmup_distill.planning.facts import Facts
from warmup_distill.planning.limits import ASSUMED
from warmup_distill.planning.measuring import Measured
from warmup_distill.planning.simulation import SLOWER, Dispatched, disturbed
from warmup_distill.planning.spread import Terms, spread, terms
from warmup_distill.planning.work import Piece, totals, work
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.cluster import ClusterSection

REPEATS = 10
"""Simulations whose mean is what is expected where some parts straggle or are lost."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Shares of the parts that take longer than they should, or are lost."""

    stragglers: float = 0.02
    failures: float = 0.01

    def __str__(self) -> str:
        return (
            f"{self.stragglers:.1%} of the parts take {SLOWER:g} times as long, "
            f"{self.failures:.1%} are lost"
        )


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A run on workers.

    Args:
        costs: seconds of one of each on a worker; None where nothing says.
        measured: whether the lengths were.
        timed: whether the seconds were too, on what the workers have.
    """

    recipe: Recipe
    facts: Facts
    cluster: ClusterSection
    lengths: Lengths
    costs: Costs | None
    measured: bool
    timed: bool

    @property
    def device(self) -> Device | None:
        """What a worker has, where the recipe names it."""
        return DEVICES[self.cluster.device] if self.cluster.device else None

    @cached_property
    def terms(self) -> Terms:
        """What the workers move."""
        return terms(self.recipe, self.facts, self.cluster, self.device, ASSUMED)

    @property
    def sampled(self) -> str:
        """What bounds parts that are shared out well."""
        return "sampling: the memory's bandwidth" if self.device else "sampling and checking"

    @property
    def counted(self) -> str:
        """How the tokens were counted."""
        if self.measured:
            return "with completions as long as those that were measured"
        return "if every completion is as long as it may be, and gives a pair"

    def tokens(self) -> dict[str, float]:
        """Of each stage."""
        return totals(self.recipe, self.facts, limits.tokens(self.lengths), self.lengths)

    def operations(self) -> dict[str, float]:
        """Of each stage."""
        counted = limits.operations(self.recipe, self.facts, self.lengths)
        return totals(self.recipe, self.facts, counted, self.lengths)

    @cached_property
    def pieces(self) -> dict[str, list[Piece]]:
        """Of each stage, in seconds of one worker; in tokens where nothing says how long."""
        return work(
            self.recipe, self.facts, self.costs or limits.tokens(self.lengths), self.lengths
        )

    def stages(self, workers: int) -> dict[str, list[Dispatched]]:
        """What becomes of the pieces of each stage if nothing goes wrong."""
        given = self.terms
        return {stage: spread(stage, some, workers, given) for stage, some in self.pieces.items()}

    def wall(self, workers: int) -> float:
        """Seconds of the whole run if nothing goes wrong."""
        return sum(one.wall for found in self.stages(workers).values() for one in found)

    def troubled(self, workers: int, trouble: Trouble) -> tuple[float, float]:
        """Seconds of the whole run, and parts lost in its worst piece, in the mean."""
        given, pieces, walls, lost = self.terms, self.pieces, list[float](), list[int]()
        for seed in range(REPEATS):
            luck = disturbed(stragglers=trouble.stragglers, failures=trouble.failures, seed=seed)
            found = [
                one
                for stage, some in pieces.items()
                for one in spread(stage, some, workers, given, luck)
            ]
            walls.append(sum(one.wall for one in found))
            lost.append(max(one.lost for one in found))
        return statistics.fmean(walls), statistics.fmean(lost)

    def efficiency(self, workers: int, wall: float) -> float:
        """The share of the workers' time in which they work on what the run is for."""
        useful = sum(one.total for some in self.pieces.values() for one in some)
        return useful / (workers * wall)

    def price(self, workers: int, wall: float) -> float:
        """Of all workers for so many seconds."""
        return workers * wall / 3600 * (self.cluster.price_per_hour or 0.0)


def look_ahead(
    recipe: Recipe, facts: Facts, at_most: Lengths, measured: Measured | None
) -> Outlook:
    """What is expected of a recipe that names workers.

    What was measured counts where workers have no other device than the one it was measured on;
    its lengths count in any case.

    Args:
        at_most: lengths to count with where none were measured.
    """
    assert recipe.cluster
    device = DEVICES[recipe.cluster.device] if recipe.cluster.device else None
    lengths = measured.lengths if measured else at_most
    costs = None
    ours = measured is not None and (device is None or is_called(device, measured.device))
    if measured and ours:
        costs = measured.costs
    elif device:
        costs = limits.seconds(recipe, facts, lengths, device, ASSUMED)
    return Outlook(
        recipe=recipe,
        facts=facts,
        cluster=recipe.cluster,
        lengths=lengths,
        costs=costs,
        measured=measured is not None,
        timed=ours,
    )


def reached(outlook: Outlook) -> dict[str, float]:
    """What was measured as a share of the device's limits, by kind of work."""
    device, costs = outlook.device, outlook.costs
    if not (outlook.timed and device and costs):
        return {}
    least = limits.seconds(outlook.recipe, outlook.facts, outlook.lengths, device, limits.ALL)
    pairs: Sequence[tuple[str, float, float]] = (
        ("sampling", least.drawing, costs.drawing),
        ("checking", least.checking + least.continuing, costs.checking),
        ("warm-up", least.pair, costs.pair),
        ("distillation", least.row, costs.row),
    )
    return {name: limit / took for name, limit, took in pairs if took}
