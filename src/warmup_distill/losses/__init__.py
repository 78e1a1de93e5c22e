"""Losses: pure functions that return a value per position or per pair; the caller reduces once."""

from warmup_distill.losses.divergences import forward_kl, reverse_kl
from warmup_distill.losses.objectives import DIVERGENCES, cross_entropy, distillation
from warmup_distill.losses.preference import dpo

__all__ = ["DIVERGENCES", "cross_entropy", "distillation", "dpo", "forward_kl", "reverse_kl"]
