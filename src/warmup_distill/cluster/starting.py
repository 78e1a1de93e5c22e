"""A Ray of our own on this machine, or the cluster that somebody has started."""

import logging
import os
import secrets
import warnings
from importlib.util import find_spec
from typing import Any

from warmup_distill.cluster.folder import RayFolder
from warmup_distill.errors import RunError
from warmup_distill.foreign.libraries import surroundings
from warmup_distill.recipe.cluster import ClusterSection

STORE = 512 * 2**20
"""Bytes of a local object store: prompts and records are small; more is spilled to the disk."""

LOOKING_AFTER = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}
"""Ray's own defaults notice a dead machine after 14 seconds, and a hung one never."""

ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""On any system: a Ray that no other machine joins looks for no address but the loopback's."""

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
        RunError: Ray is not installed, or no cluster is at the address.
    """

    def __init__(self, settings: ClusterSection) -> None:
        require_ray()
        self._folder = RayFolder() if settings.address == "local" else None
        _prepare(is_local=self._folder is not None)
        import ray

        self.ray: Any = ray
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of what Ray will do another day
                ray.init(**QUIET, **self._asked(settings))
        except (ConnectionError, RuntimeError, ValueError) as error:
            self.close()
            raise RunError(
                f"no Ray cluster answers at {settings.address} ({error}). Start one with `ray "
                "start --head`, give its address, or leave --ray-address out to start Ray on this "
                "machine."
            ) from error

    def _asked(self, settings: ClusterSection) -> dict[str, Any]:
        if self._folder is None:
            return {"address": settings.address, "runtime_env": {"env_vars": surroundings()}}
        cpus = cpus_per_worker(settings) * settings.num_workers
        return {
            "address": "local",
            "num_cpus": max(1, round(cpus)),
            "include_dashboard": False,
            "object_store_memory": STORE,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(self._folder.path),
        }

    def keep_logs(self) -> str:
        """Where what Ray and its workers wrote is to be found, after the end too."""
        if self._folder is None:
            return "Ray's logs on each machine (/tmp/ray/session_latest/logs)"
        self._folder.keep()
        return str(self._folder.logs)

    def close(self) -> None:
        """Leave the cluster; a Ray of our own ends."""
        self.ray.shutdown()
        if self._folder is not None:
            self._folder.close()


def _prepare(*, is_local: bool) -> None:
    """Set what Ray reads from the environment."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if is_local:
        for name, value in (LOOKING_AFTER | ALONE).items():
            os.environ.setdefault(name, value)
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


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
