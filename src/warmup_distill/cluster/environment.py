"""What Ray reads from the environment, as long as it works for us."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

HOST = "127.0.0.1"

COMMON = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""No statistics are sent; and a part that asks for no GPU may see those that there are."""

ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""On any system: 0 where no other machine joins, for then Ray looks for no address but its own."""


def own() -> dict[str, str]:
    """What a Ray of our own is told: to speak to nobody without the token, or beyond this machine.

    The processes of a training would else meet at the address that the machine's name stands for.
    """
    token = secrets.token_hex(32)
    closed = {ALONE: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    return closed | {"GLOO_SOCKET_IFNAME": _loopback()}


def _loopback() -> str:
    """The name of the interface that nobody else reaches."""
    there: dict[str, Any] = psutil.net_if_addrs()
    return next(name for name, some in there.items() if any(one.address == HOST for one in some))


@contextmanager
def told(values: dict[str, str]) -> Iterator[None]:
    """Ray reads these variables inside the block, and what is common to all; outside, neither."""
    values = COMMON | values
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_again()


def _read_again() -> None:
    """Have Ray forget what the environment said of tokens when it was imported, or last used."""
    from ray import _raylet

    raylet: Any = _raylet
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
