"""A Ray of our own on this machine, or the cluster that somebody has started."""

import logging
import os
import secrets
import warnings
from importlib.util import find_spec
from typing import Any

from warmup_distill.errors import RunError
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


def require_ray() -> None:
    """Raise a RunError if Ray is not installed."""
    if find_spec("ray") is None:
        raise RunError(
            "workers need Ray, which is not installed. Install it with: "
            "pip install 'warmup-distill[ray]'"
        )


def connect(settings: ClusterSection) -> Any:
    """The module `ray`, connected; a local Ray is started first.

    A Ray of our own talks to nobody without a token that is made here, and sends no statistics.

    Raises:
        RunError: Ray is not installed, or no cluster is at the address.
    """
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    is_local = settings.address == "local"
    if is_local:
        for name, value in LOOKING_AFTER.items():
            os.environ.setdefault(name, value)
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    quiet: dict[str, Any] = {
        "log_to_driver": True,
        "logging_level": logging.ERROR,
        "configure_logging": False,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what Ray will do another day
            if is_local:
                _start(ray, settings, quiet)
            else:
                ray.init(address=settings.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunError(
            f"no Ray cluster answers at {settings.address} ({error}). Start one with `ray start "
            "--head`, give its address, or leave --ray-address out to start Ray on this machine."
        ) from error
    return ray


def _start(ray: Any, settings: ClusterSection, quiet: dict[str, Any]) -> None:
    cpus = cpus_per_worker(settings) * settings.num_workers
    ray.init(
        address="local",
        num_cpus=max(1, round(cpus)),
        include_dashboard=False,
        object_store_memory=STORE,
        _node_ip_address="127.0.0.1",
        **quiet,
    )


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
