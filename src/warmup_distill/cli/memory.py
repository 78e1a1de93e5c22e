"""Too little memory for the program itself: said before anything is imported."""

import sys

from warmup_distill.errors import RunError

ADDRESSES = 2_500 * 2**20
"""Bytes of addresses that Python, torch and transformers need before any model."""


def require_addresses() -> None:
    """Raise a RunError where `ulimit -v` leaves too few: a library would try without an end."""
    if sys.platform == "win32":
        return
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit not in (-1, resource.RLIM_INFINITY) and limit < ADDRESSES:
        raise RunError(
            f"this shell gives a program {limit // 2**20:,} MiB of addresses, and torch alone "
            f"takes some {ADDRESSES // 2**20:,} MiB. Raise the limit: ulimit -v unlimited"
        )
