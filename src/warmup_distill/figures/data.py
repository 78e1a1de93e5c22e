"""What figures are drawn of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Mark = tuple[float, str]
"""A value along an axis, and its name."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of values in bins of one width; bin i starts at `start + i * width`.

    What lies beyond the bins is counted apart, so that it cannot be taken for a peak.
    """

    start: float
    width: float
    counts: list[int]
    below: int = 0
    """How many values lie before the first bin."""
    above: int = 0
    """How many lie after the last one."""

    @property
    def end(self) -> float:
        """Upper edge of the last bin."""
        return self.start + len(self.counts) * self.width

    def edges(self, index: int) -> tuple[float, float]:
        low = self.start + index * self.width
        return low, low + self.width

    def bins(self) -> list[tuple[float, float, int]]:
        """Low edge, high edge and count of all that hold something, from the left."""
        inside = [(*self.edges(index), number) for index, number in enumerate(self.counts)]
        below, above = (-math.inf, self.start, self.below), (self.end, math.inf, self.above)
        return [one for one in (below, *inside, above) if one[2]]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line; those of the same name share a colour and a line of the legend."""

    name: str
    points: Points
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A point and the interval of its y."""

    x: float
    y: float
    low: float
    high: float


def thin(points: Points, limit: int = 200) -> list[tuple[float, float]]:
    """At most `limit` points: the means of equal runs of neighbours."""
    size = math.ceil(len(points) / limit) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]
