"""The place that is many processes: one part per Ray task, records back to the driver.

The driver alone writes files. Tasks, not actors, for a task that is lost leaves nothing behind.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warmup_distill.cluster.parts import Lost, News, OpenParts
from warmup_distill.cluster.places import Body, Item, Meter, Result, StepMeter, Task
from warmup_distill.cluster.ranks import train_on_ranks
from warmup_distill.cluster.remote import compute_part, wake
from warmup_distill.cluster.saying import Speaker
from warmup_distill.cluster.starting import (
    Connection,
    cpus_per_worker,
    gpus_per_worker,
    require_ray,
)
from warmup_distill.errors import LostError, RunError
from warmup_distill.models.holding import Held
from warmup_distill.recipe.cluster import ClusterSection


class Workers:
    """See `Place`; Ray is started, or joined, when the first part is to be computed.

    Raises:
        RunError: Ray is not installed.
    """

    def __init__(self, settings: ClusterSection) -> None:
        require_ray()
        self.held = Held()
        self.settings = settings
        self._connection: Connection | None = None
        self._speaker = Speaker()
        self._woken: list[Any] = []  # nobody waits for them; a part says what is wrong

    def compute(
        self, task: Task[Item, Result], items: Sequence[Item], meter: Meter
    ) -> Iterator[tuple[int, Result]]:
        """See `Place.compute`."""
        if not items:
            return
        self.held.take()  # the workers have their own
        ray = self._connected()
        parts = OpenParts(
            link=_RayLink(ray=ray, resources=self._resources, task=task, items=items),
            width=self.settings.num_workers,
            silence=self.settings.part_timeout,
            max_failures=self.settings.max_failures,
            speaker=self._speaker,
        )
        with self._logs_named():
            yield from parts.all(len(items), meter)

    def train(self, body: Body, scratch: Path, meter: StepMeter) -> dict[str, Any]:
        """See `Place.train`."""
        self.held.take()
        if self.settings.num_workers == 1:
            return body(self.held, meter)
        self._connected()
        with self._logs_named():
            return train_on_ranks(
                self.settings, self._resources, body, scratch, meter, self._speaker
            )

    def close(self) -> None:
        """See `Place.close`."""
        self.held.take()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Any:
        if self._connection is None:
            self._connection = Connection(self.settings)
            ray = self._connection.ray
            self._resources = {
                "num_cpus": cpus_per_worker(self.settings),
                "num_gpus": gpus_per_worker(ray, self.settings),
            }
            _require_room(ray.cluster_resources(), self._resources)
            waking = ray.remote(max_retries=0)(wake).options(**self._resources)
            self._woken = [waking.remote() for _ in range(self.settings.num_workers)]
        return self._connection.ray

    @contextmanager
    def _logs_named(self) -> Iterator[None]:
        """Where workers were lost, keep what they wrote, and say where."""
        try:
            yield
        except LostError as error:
            assert self._connection
            where = self._connection.keep_logs()
            raise LostError(f"{error}\nWhat the workers wrote is in {where}.") from None


def _require_room(there: dict[str, float], wanted: dict[str, float]) -> None:
    """Raise a RunError if not one worker would find what it needs."""
    for ours, theirs in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        if wanted[ours] > there.get(theirs, 0):
            raise RunError(
                f"a worker needs {wanted[ours]:g} {theirs}, and the cluster has "
                f"{there.get(theirs, 0):g}. Lower cluster.{ours[4:]}_per_worker."
            )


@dataclass(kw_only=True)
class _RayLink:
    """See `parts.Link`. An attempt is the stream of what its worker tells."""

    ray: Any
    resources: dict[str, float]
    task: Any
    items: Sequence[Any]
    _shared: Any = field(init=False)

    def __post_init__(self) -> None:
        self._shared = self.ray.put(self.task)
        # No try of Ray's own, and a worker lives on after a part that used a GPU.
        remote = self.ray.remote(max_retries=0, max_calls=0)(compute_part)
        self._remote = remote.options(num_returns="streaming", **self.resources)

    def send(self, number: int) -> Any:
        return self._remote.remote(self._shared, self.items[number], str(Path.cwd()))

    def news(self, attempts: Sequence[Any], timeout: float) -> list[tuple[Any, News]]:
        waited = list(attempts)
        self.ray.wait(waited, num_returns=1, timeout=timeout)
        # Of all that is ready and not of one: no sign may wait behind those of others.
        ready, _ = self.ray.wait(waited, num_returns=len(waited), timeout=0)
        return [(attempt, self._next(attempt)) for attempt in ready]

    def _next(self, attempt: Any) -> News:
        try:
            found: News = self.ray.get(next(attempt))
        except StopIteration:
            return Lost(why="it ended without a result")
        except self.ray.exceptions.RayError as error:
            return Lost(why=_first_line(error))
        return found

    def cancel(self, attempt: Any) -> None:
        self.ray.cancel(attempt, force=True)


def _first_line(error: Exception) -> str:
    """What Ray says of a lost task, without its traceback."""
    cause = getattr(error, "cause", None) or error
    return str(cause).strip().splitlines()[0][:300]
