"""Random numbers by name: a draw depends on what it is for, never on what is drawn beside it.

A stream is a 64-bit key hashed from names such as (seed, "student", prompt id, sample index); the
number at a position of a stream is a mix of key and position (SplitMix64). So a completion gets
the same numbers in whatever batch, order or process it is drawn, and on whatever device: they are
made there, by whole numbers alone.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def stream(*names: object) -> int:
    """The 64-bit key of the stream with these names."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def keys_of(streams: Sequence[int], device: torch.device | None = None) -> Tensor:
    """The keys of some streams as int64 [n], which has the same 64 bits with another sign."""
    return torch.tensor([_signed(key) for key in streams], dtype=torch.long, device=device)


def uniforms(keys: Tensor, positions: Tensor | int) -> Tensor:
    """Numbers in [0, 1), float64, one for each key at its position; both are broadcast.

    Source: Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, 2014, figure 17.
    """
    places = torch.as_tensor(positions, device=keys.device)
    mixed = keys + (places + 1) * _GOLDEN  # products and sums of int64 wrap around
    mixed = (mixed ^ _shifted(mixed, 30)) * _FIRST
    mixed = (mixed ^ _shifted(mixed, 27)) * _SECOND
    mixed = mixed ^ _shifted(mixed, 31)
    return _shifted(mixed, 11).double() / 2.0**53


def _shifted(bits: Tensor, places: int) -> Tensor:
    """To the right, with zeros from the left, as if there were no sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


_GOLDEN, _FIRST, _SECOND = map(
    _signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
