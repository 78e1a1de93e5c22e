"""Too little memory: said before anything is imported, or once a library has said it."""

import errno
import sys

from warmup_distill.errors import RunError

ADDRESSES = 2_500 * 2**20
"""Bytes of addresses that Python, torch and transformers need before any model."""
SAID = ("allocate memory", "out of memory", "map segment", "new thread", "bad_alloc")
"""Words of the libraries below us."""


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


def is_out_of_memory(error: Exception) -> bool:
    """Whether something failed for want of memory."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return any(words in str(error).lower() for words in SAID)
