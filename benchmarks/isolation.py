"""Where nobody else can reach what a benchmark starts: Ray and servers listen, tokens or not."""

import os
import shutil
import subprocess
import sys

MARK = "WARMUP_DISTILL_ISOLATED"
"""Set in the environment of a script that was started again."""


def isolate() -> None:
    """Start this script again where it sees no network but its own loopback, if that can be had."""
    if os.environ.get(MARK):
        return
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    apart = ["unshare", "--net", *user, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    tools = all(map(shutil.which, ("unshare", "ip")))
    if tools and subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0:
        print("isolated: in a network of its own, with nothing but a loopback", flush=True)
        os.environ[MARK] = "yes"
        os.execvp(apart[0], [*apart, sys.executable, *sys.argv])
    print("not isolated: no network namespace can be made here, and Ray's ports are open to others")
