"""A Ray of our own: it can be had again and again, and nobody else reaches it."""

from pathlib import Path

import pytest
from isolated import finish, require_isolation, start

LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a process says that starts it twice."""
    require_isolation()
    folder = tmp_path_factory.mktemp("twice")
    script = str(Path(__file__).with_name("twice.py"))
    return finish(start(script, folder=folder), folder).splitlines()


def test_who_has_imported_ray_can_run_on_workers_again_and_again(said: list[str]) -> None:
    assert said.count("result [(0, 8)]") == 2


def test_it_listens_on_the_loopback_alone(said: list[str]) -> None:
    """What it is bound to says so, though there is nothing but a loopback where this is tried."""
    addresses = [line.split()[1:] for line in said if line.startswith("listening")]
    assert len(addresses) == 2 and all(addresses)
    assert set().union(*addresses) <= LOOPBACK
