"""Two workers that warn and chatter, and then die again and again; in a folder of its own.

python talkative.py        prints how it ended
"""

import logging
import os
import signal
import sys
import time
import warnings

from warmup_distill.cluster.places import NOBODY, Meter
from warmup_distill.cluster.workers import Workers
from warmup_distill.errors import LostError
from warmup_distill.foreign.libraries import quiet_libraries
from warmup_distill.models.holding import Held
from warmup_distill.recipe.cluster import ClusterSection


def warn(item: int, held: Held, meter: Meter) -> int:
    """Say the same on every worker, in every way in which libraries do."""
    import transformers  # noqa: F401 — its loggers show their messages themselves

    warnings.warn("the model is old", UserWarning, stacklevel=1)
    logging.getLogger("accelerate.hooks").warning("a hook is %s", "loose")
    logging.getLogger("transformers.modeling_utils").error("a weight is missing")
    logging.getLogger("warmup_distill.engines").info("the plain path is taken")
    logging.getLogger("accelerate.hooks").info("nobody wants to know")
    for stream in (sys.stdout, sys.stderr):
        stream.write("chatter\n")
    time.sleep(3)  # so that both workers have parts
    return os.getpid()


def die(item: int, held: Held, meter: Meter) -> None:
    """What a process that runs out of memory does."""
    os.write(2, b"last words\n")
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    quiet_libraries()
    logging.getLogger("warmup_distill").setLevel(logging.INFO)
    place = Workers(ClusterSection(num_workers=2, max_failures=1))
    try:
        pids = {pid for _, pid in place.compute(warn, range(4), NOBODY)}
        sys.stdout.write(f"workers: {len(pids)}\n")
        list(place.compute(die, range(2), NOBODY))
    except LostError as error:
        sys.stdout.write(f"{error}\n")
    finally:
        place.close()


if __name__ == "__main__":
    main()
