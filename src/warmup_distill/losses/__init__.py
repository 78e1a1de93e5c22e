"""Losses: pure functions that return a value per position or per pair; the caller reduces once."""

from warmup_distill.losses.adaptive import adaptive_kl
from warmup_distill.losses.alpha_beta import alpha_beta
from warmup_distill.losses.concrete_score import concrete_score
from warmup_distill.losses.divergences import (
    forward_kl,
    forward_kl_top_k,
    reverse_kl,
    symmetric_kl,
    total_variation,
)
from warmup_distill.losses.mixtures import jensen_shannon, skewed_forward_kl, skewed_reverse_kl
from warmup_distill.losses.objectives import DIVERGENCES, Objective, cross_entropy
from warmup_distill.losses.preference import (
    NEED_REFERENCE,
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
from warmup_distill.losses.taid import TaidSchedule, taid

__all__ = [
    "DIVERGENCES",
    "NEED_REFERENCE",
    "NEED_WHOLE",
    "PREFERENCES",
    "Objective",
    "PairLogprobs",
    "TaidSchedule",
    "adaptive_kl",
    "alpha_beta",
    "concrete_score",
    "cross_entropy",
    "dpo",
    "forward_kl",
    "forward_kl_top_k",
    "hinge",
    "ipo",
    "jensen_shannon",
    "nll",
    "reverse_kl",
    "robust",
    "sigmoid",
    "simpo",
    "skewed_forward_kl",
    "skewed_reverse_kl",
    "symmetric_kl",
    "taid",
    "total_variation",
]
