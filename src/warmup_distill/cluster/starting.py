"""A Ray of our own on this machine, or the cluster that somebody has started."""

import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import psutil

from warmup_distill.cluster.folder import RayFolder
from warmup_distill.errors import RunError
from warmup_distill.foreign.libraries import surroundings
from warmup_distill.recipe.cluster import ClusterSection

HOST = "127.0.0.1"
logger = logging.getLogger(__name__)

STORE = 512 * 2**20
"""Bytes of a local object store: prompts and records are small; more is spilled to the disk."""

COMMON = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""No statistics are sent; and a part that asks for no GPU may see those that there are."""

ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""On any system: 0 where no other machine joins, for then Ray looks for no address but its own."""

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
        self._stack.callback(_read_environment)  # as it is when ours has gone
        self._stack.enter_context(_environment(COMMON | (_own() if self._folder else {})))
        _read_environment()
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


def _own() -> dict[str, str]:
    """What a Ray of our own and this process read from the environment.

    Processes of a training would else meet at the address that the machine's name stands for.
    """
    token = secrets.token_hex(32)
    closed = {ALONE: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    return closed | {"GLOO_SOCKET_IFNAME": _loopback()}


def _loopback() -> str:
    """The name of the interface that nobody else reaches."""
    there: dict[str, Any] = psutil.net_if_addrs()
    return next(name for name, some in there.items() if any(one.address == HOST for one in some))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables of the environment inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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


def _read_environment() -> None:
    """Have Ray forget what the environment said of tokens when it was imported, or connected."""
    from ray import _raylet

    raylet: Any = _raylet
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


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
