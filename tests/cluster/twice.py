"""Two places of workers, one after the other, in a process that has imported Ray before.

python twice.py        prints a result of each, and the addresses that anybody here listens on
"""

import sys

import psutil
import ray  # noqa: F401 — it has read the environment now

from warmup_distill.cluster.places import NOBODY, Meter
from warmup_distill.cluster.workers import Workers
from warmup_distill.models.holding import Held
from warmup_distill.recipe.cluster import ClusterSection


def double(item: int, held: Held, meter: Meter) -> int:
    return 2 * item


for _ in range(2):
    place = Workers(ClusterSection(num_workers=1))
    sys.stdout.write(f"result {list(place.compute(double, [4], NOBODY))}\n")
    listening = {one.laddr.ip for one in psutil.net_connections("inet") if one.status == "LISTEN"}
    sys.stdout.write(f"listening {' '.join(sorted(listening))}\n")
    place.close()
