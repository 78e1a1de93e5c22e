"""Which place the parts of some work are computed in."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from warmup_distill.cluster.places import Here, Place
from warmup_distill.cluster.workers import Workers
from warmup_distill.errors import RunError
from warmup_distill.recipe.cluster import ClusterSection


@contextmanager
def place_of(settings: ClusterSection | None) -> Iterator[Place]:
    """The place that a recipe names, until the end of the block.

    Raises:
        RunError: a launcher has started this command several times, or Ray is not installed.
    """
    require_one_driver()
    place: Place = Here() if settings is None else Workers(settings)
    try:
        yield place
    finally:
        place.close()


def require_one_driver() -> None:
    """Raise a RunError if a launcher runs this command as one of several processes."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size.isdecimal() and int(size) > 1:
        raise RunError(
            f"this command was started as one of {size} processes (WORLD_SIZE), and each of them "
            "would write the same run. Start it once, with --workers "
            f"{size}: it starts the others itself."
        )
