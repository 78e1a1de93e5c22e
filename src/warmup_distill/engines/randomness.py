"""Random numbers by name: a draw depends on what it is for, never on what is drawn beside it.

A stream is a 64-bit key hashed from names such as (seed, "student", prompt id, sample index); the
number at a position of a stream is a mix of key and position (SplitMix64). So a completion gets
the same numbers in whatever batch, order or process it is drawn.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream(*names: object) -> int:
    """The 64-bit key of the stream with these names."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def uniforms(
    streams: NDArray[np.uint64], position: int | NDArray[np.uint64]
) -> NDArray[np.float64]:
    """Numbers in [0, 1), one per stream, at this position or at one of its own.

    Source: Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, 2014, figure 17.
    """
    with np.errstate(over="ignore"):
        mixed: NDArray[np.uint64] = (
            streams + (np.asarray(position, dtype=np.uint64) + np.uint64(1)) * _GOLDEN
        )
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    numbers: NDArray[np.float64] = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
    return numbers
