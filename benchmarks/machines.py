"""Several machines on one: nodes of Ray, each with processes of its own, and their sudden ends."""

import os
import random
import secrets
import tempfile
import time
from typing import Any

import psutil

BACK = 5.0
"""Seconds after which a machine that died is replaced."""
AT_WORK = ("ray::compute_part", "ray::RayTrainWorker")
"""What processes are called that compute a part, or train."""


class Machines:
    """A head without cores, and machines with one core each.

    Args:
        count: of the machines.
    """

    def __init__(self, count: int) -> None:
        self._folder = tempfile.TemporaryDirectory(  # a short name: sockets are in it
            prefix="wd-soak-", dir="/tmp", ignore_cleanup_errors=True
        )
        os.environ |= {
            "RAY_TMPDIR": self._folder.name,
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        from ray.cluster_utils import Cluster  # it reads the environment

        head = {"num_cpus": 0, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._there = [self._cluster.add_node(num_cpus=1) for _ in range(count)]
        self.address = str(self._cluster.address)

    def kill_worker(self, draw: random.Random) -> bool:
        """Kill a process that is at work, if there is one."""
        busy = [one for machine in self._there for one in _processes(machine) if _is_at_work(one)]
        if busy:
            _kill(draw.choice(busy))
        return bool(busy)

    def kill_machine(self, draw: random.Random) -> bool:
        """Kill all processes of a machine; another one takes its place."""
        machine = draw.choice(self._there)
        for process in _processes(machine):
            _kill(process)
        self._there.remove(machine)
        time.sleep(BACK)
        self._there.append(self._cluster.add_node(num_cpus=1))
        return True


def _processes(machine: Any) -> list[psutil.Process]:
    raylet = psutil.Process(machine.all_processes["raylet"][0].process.pid)
    return [raylet, *raylet.children(recursive=True)]


def _is_at_work(process: psutil.Process) -> bool:
    try:
        return " ".join(process.cmdline()).startswith(AT_WORK)
    except psutil.Error:  # it has just ended
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:  # it has just ended
        return
