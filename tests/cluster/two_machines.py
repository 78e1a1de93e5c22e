"""Roll out on a cluster of two machines, and let one of them die or hang while it is at work.

python two_machines.py killed|stopped        in a folder with recipe.yaml and run/
"""

import os
import signal
import subprocess
import sys
import time

from isolated import below, busy_workers
from ray.cluster_utils import Cluster

LOOKING_AFTER = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}
"""As docs/scale.md has it: by itself Ray notices a dead machine after 14 s, a hung one never."""


def main(fate: str) -> int:
    os.environ.update(LOOKING_AFTER)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
    driver = subprocess.Popen(
        [sys.executable, "-m", "warmup_distill", "rollouts", "recipe.yaml", "--output-dir", "run",
         "--workers", "2", "--ray-address", cluster.address, "--set", "cluster.part_timeout=8"],
    )  # fmt: skip
    raylet = machines[0].all_processes["raylet"][0].process.pid
    machine = stopped_at_work(raylet, driver)
    if fate == "killed":
        for pid in machine:
            os.kill(pid, signal.SIGKILL)
    return driver.wait()


def stopped_at_work(raylet: int, driver: "subprocess.Popen[bytes]") -> list[int]:
    """All processes of a machine, stopped in the middle of a part."""
    while driver.poll() is None:
        time.sleep(0.02)
        if not busy_workers(raylet):
            continue
        machine = [raylet, *below(raylet)]
        for pid in machine:
            os.kill(pid, signal.SIGSTOP)
        if busy_workers(raylet):
            return machine
        for pid in machine:  # it has just finished
            os.kill(pid, signal.SIGCONT)
    raise SystemExit("the rollouts ended before the machine was seen at work")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
