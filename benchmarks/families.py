"""Every family that `transformers` offers as a causal language model, made tiny and tried.

    python benchmarks/families.py                    all of them, and docs/models.md written anew
    python benchmarks/families.py llama falcon_h1    some of them, printed

For each: the path that it takes, how far rollouts are from plain forwards, the first loss of the
warm-up, the distillation's loss against the naive one, and whether a saved model loads the same.
Differences are in nats, in float32.
"""

import argparse
import math
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import training_arguments
from datasets import Dataset
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from warmup_distill.engines.paths import path_of
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Check, Sample
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.warmup import WarmupTrainer
from warmup_distill.tree.packed import require_finite

TOKENS = 64
VOCABULARY = Vocabulary(size=TOKENS, eos_ids=frozenset({1}), pad_id=0)
PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
TARGET = Path(__file__).parents[1] / "docs" / "models.md"
EXACT = 1e-4
"""Nats; what a row must stay below."""

SMALL: dict[str, Any] = {
    "vocab_size": TOKENS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "n_ctx": 128, "n_inner": 48,
    "d_model": 32, "ffn_dim": 48, "ffn_hidden_size": 48, "word_embed_proj_dim": 32,
    "decoder_layers": 2, "encoder_layers": 2, "decoder_attention_heads": 4,
    "encoder_attention_heads": 4, "decoder_ffn_dim": 48, "encoder_ffn_dim": 48,
    "embedding_size": 32, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    "n_group": 1, "topk_group": 1, "rotary_dim": 8, "dropout": 0.0, "attention_dropout": 0.0,
}  # fmt: skip
"""Sizes by every name that families have for them; a configuration takes those it knows."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table."""

    family: str
    label: str
    changes: dict[str, Any]


@dataclass(kw_only=True)
class Result:
    """What was found of one variant; None where it did not come that far."""

    label: str
    path: str = ""
    rollouts: float | None = None
    loss: float | None = None
    distill: float | None = None
    reload: float | None = None
    failure: str = ""

    @property
    def sound(self) -> bool:
        differences = (self.rollouts, self.distill, self.reload)
        started = self.loss is not None and abs(self.loss - math.log(2)) < 1e-3
        return started and all(value is not None and value < EXACT for value in differences)


def tiny(family: str, changes: dict[str, Any], seed: int) -> PreTrainedModel:
    """A random model of a family, loud enough that a wrong token shows."""
    kind = CONFIG_MAPPING[family]
    config = kind()
    text = config.get_text_config()
    taken = {name: value for name, value in SMALL.items() if hasattr(text, name)}
    taken |= {name: value for name, value in changes.items()}
    layers = taken.get("num_hidden_layers", 2)
    for name in ("layer_types", "mlp_layer_types"):
        kinds = getattr(text, name, None)
        if isinstance(kinds, list) and name not in taken:
            taken[name] = _kinds(kinds, layers)
    config = type(text)(**taken)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 1.3 * math.prod(weights.shape[1:]) ** -0.5)
    return model.eval()


def _kinds(kinds: list[str], layers: int) -> list[str]:
    """So many layers, of all kinds in turn."""
    each = list(dict.fromkeys(kinds))
    return [each[i % len(each)] for i in range(layers)]
