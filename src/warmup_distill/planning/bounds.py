"""What bounds a stage on some workers, and up to how many of them more would help, in words."""

from collections.abc import Sequence

from warmup_distill.planning.simulation import Dispatched
from warmup_distill.planning.spread import Terms, fastest
from warmup_distill.planning.work import Parts, Piece, Steps
from warmup_distill.recipe.batches import most_processes

EVEN = 0.8
"""Workers are busy for so much of the time where parts are shared out well."""


def bound(
    stage: str,
    pieces: Sequence[Piece],
    found: Sequence[Dispatched],
    workers: int,
    given: Terms,
    *,
    sampled: str,
) -> str:
    """What keeps a stage from being faster: of its longest piece, what takes most of it.

    Args:
        found: what became of the pieces on so many workers.
        sampled: what bounds parts that nothing else does.
    """
    startup = given.startup(stage)
    if startup > sum(one.wall for one in found) / 2:
        return "the start of the workers"
    piece, one = max(zip(pieces, found, strict=True), key=lambda both: both[1].wall)
    if isinstance(piece, Steps):
        return _training(stage, piece, workers, given)
    if stage == "warmup":
        return "the watch's examinations, which one worker makes"
    parts = len(piece.costs)
    if parts < workers:
        return f"its longest part; {workers - parts:,} workers have none"
    if piece.total < EVEN * workers * (one.wall - startup):
        return f"the busiest worker, with {-(-parts // workers)} of {parts:,} parts"
    return sampled


def _training(stage: str, piece: Steps, workers: int, given: Terms) -> str:
    processes = most_processes(piece.batch, workers)
    shares = {
        "operations": piece.total / piece.count / processes,
        "the exchange of gradients": given.exchange(stage, processes),
        "the optimizer's update": given.update[stage],
    }
    most = max(shares, key=lambda name: shares[name])
    share = f"{shares[most] / sum(shares.values()):.0%} of a step"
    return f"{most} ({share}{f' of {processes:,} workers' if processes < workers else ''})"


def helps(stage: str, pieces: Sequence[Piece], given: Terms) -> str:
    """Up to how many workers a stage becomes faster, and why no further."""
    piece = max(pieces, key=lambda one: one.total)
    if isinstance(piece, Parts):
        lower = "; lower rollouts.prompts_per_part for more" if stage == "rollouts" else ""
        return f"{len(piece.costs):,}: its parts{lower}"
    best = fastest(stage, piece, given)
    if best == piece.batch:
        return f"{best:,}: the rows of its batch"
    return f"{best:,}: then the exchange of gradients is longer"
