"""Shared fixtures: random models that are small enough to run in milliseconds.

A random model of 30 thousand parameters is enough for every property of shapes, masks, caches and
gradients: what is claimed holds for any weights. Claims about learning use the bundled pair.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before the imports that read it: no test uses the network
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # as the program sets it, before it imports

import pytest
import torch
from hypothesis import settings
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
)
from transformers import Qwen2ForCausalLM as Qwen2

from warmup_distill.models.vocabulary import Vocabulary

settings.register_profile("the same each time", derandomize=True, deadline=None)
settings.load_profile("the same each time")  # new cases are looked for by hand, not by CI

VOCABULARY_SIZE = 40


def random_model(seed: int, kind: str = "llama") -> PreTrainedModel:
    """A random causal language model, wide enough in its weights to disagree with another one."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape)).eval()
    if kind == "qwen2":
        return Qwen2(Qwen2Config(**shape)).eval()
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **shape, **dropout)
    return GPT2LMHeadModel(config).eval()


def padded(model: PreTrainedModel, rows: int) -> PreTrainedModel:
    """The model with a head of more rows than there are tokens, loud where it is not cut off."""
    model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[VOCABULARY_SIZE:] = 5.0
    return model


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Vocabulary(size=VOCABULARY_SIZE, eos_ids=frozenset({1}), pad_id=0)


@pytest.fixture(scope="session", params=["llama", "qwen2", "gpt2"])
def models(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A random student and a random teacher of one architecture."""
    return random_model(1, request.param), random_model(2, request.param)
