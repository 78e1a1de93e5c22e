"""Losses: pure functions that return a value per position or per pair; the caller reduces once."""

from warmup_distill.losses.divergences import forward_kl, forward_kl_top_k, reverse_kl
from warmup_distill.losses.objectives import DIVERGENCES, cross_entropy, distillation, mixed
from warmup_distill.losses.preference import (
    NEED_WHOLE,
    PREFERENCES,
    PairLogprobs,
    dpo,
    hinge,
    ipo,
    nll,
    robust,
    sigmoid,
    simpo,
)

__all__ = [
    "DIVERGENCES",
    "NEED_WHOLE",
    "PREFERENCES",
    "PairLogprobs",
    "cross_entropy",
    "distillation",
    "dpo",
    "forward_kl",
    "forward_kl_top_k",
    "hinge",
    "ipo",
    "mixed",
    "nll",
    "reverse_kl",
    "robust",
    "sigmoid",
    "simpo",
]
