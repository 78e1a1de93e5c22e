"""A Ray of our own on this machine, or the cluster that somebody has started."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from warmup_distill.cluster.environment import HOST, own, told
from warmup_distill.cluster.folder import RayFolder
from warmup_distill.errors import RunError
from warmup_distill.foreign.libraries import surroundings
from warmup_distill.recipe.cluster import ClusterSection

logger = logging.getLogger(__name__)

STORE = 512 * 2**20
"""Bytes of a local object store: prompts and records are small; more is spilled to the disk."""

QUIET: dict[str, Any] = {
    "log_to_driver": False,  # what workers say comes through `saying`
    "logging_level": logging.ERROR,
    "configure_logging": False,
}


def require_ray() -> None:
    """Raise a RunError if Ray is not installed."""
    if find_spec("ray") is None:
        raise RunError(
            "workers need Ray, which is not installed. Install it with: "
            "pip install 'warmup-distill[ray]'"
        )


class Connection:
    """The module `ray`, connected until it is closed; a Ray of our own is started first.

    A Ray of our own talks to nobody without a token that is made here, and sends no statistics.

    Raises:
        RunError: Ray is not installed or does not start, or no cluster is at the address.
    """

    def __init__(self, settings: ClusterSection) -> None:
        require_ray()
        self._folder = RayFolder() if settings.address == "local" else None
        self._stack = ExitStack()
        self._stack.enter_context(told(own() if self._folder else {}))
        import ray

        self.ray: Any = ray
        self._stack.enter_context(_in_our_words(ray))
        self._stack.callback(ray.shutdown)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of what Ray will do another day
                ray.init(**QUIET, **self._asked(settings))
        except (ConnectionError, RuntimeError, ValueError) as error:
            refusal = self._refusal(settings, error)
            self.close()
            raise refusal from error

    def _asked(self, settings: ClusterSection) -> dict[str, Any]:
        if self._folder is None:
            return {"address": settings.address, "runtime_env": {"env_vars": surroundings()}}
        cpus = cpus_per_worker(settings) * settings.num_workers
        return {
            "address": "local",
            "num_cpus": max(1, round(cpus)),
            "include_dashboard": False,
            "object_store_memory": STORE,
            "_node_ip_address": HOST,
            "_temp_dir": str(self._folder.sessions),
        }

    def _refusal(self, settings: ClusterSection, error: Exception) -> RunError:
        if self._folder:
            return RunError(
                f"Ray does not start on this machine ({error}). What it wrote is in "
                f"{self.keep_logs()}."
            )
        return RunError(
            f"no Ray cluster answers at {settings.address} ({error}). Start one with `ray start "
            "--head`, give its address, or leave --ray-address out to start Ray on this machine."
        )

    def keep_logs(self) -> str:
        """Where what Ray and its workers wrote is to be found, after the end too."""
        if self._folder is None:
            return "Ray's logs on each machine (/tmp/ray/session_latest/logs)"
        self._folder.keep()
        return str(self._folder.logs)

    def close(self) -> None:
        """Leave the cluster; a Ray of our own ends."""
        self._stack.close()
        if self._folder:
            self._folder.close()


@contextmanager
def _in_our_words(ray: Any) -> Iterator[None]:
    """Log the first sentence of what Ray's own processes tell, instead of printing all of it."""

    def retell(data: dict[str, Any], ignore_prefix: bool) -> None:
        for line in data["lines"]:
            logger.warning("Ray: %s", line.strip().split(". ")[0])

    worker = ray._private.worker
    original = worker.print_to_stdstream
    worker.print_to_stdstream = retell
    try:
        yield
    finally:
        worker.print_to_stdstream = original


def cpus_per_worker(settings: ClusterSection) -> float:
    """As the recipe says; else this machine's are shared out, and of a cluster's each takes one."""
    if settings.cpus_per_worker is not None:
        return settings.cpus_per_worker
    if settings.address != "local":
        return 1
    return max(1, (os.cpu_count() or 1) // settings.num_workers)


def gpus_per_worker(ray: Any, settings: ClusterSection) -> float:
    """As the recipe says; else one if the cluster has any."""
    if settings.gpus_per_worker is not None:
        return settings.gpus_per_worker
    return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
