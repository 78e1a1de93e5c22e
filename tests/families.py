"""Tiny random models of the families whose attention is more than causal.

Windows are of four tokens, shorter than all texts that the tests run.
"""

from typing import Any

import torch
from conftest import VOCABULARY_SIZE, random_model
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2MoeConfig,
)

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 128, "initializer_range": 0.3,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip
ALTERNATE = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
# All experts take part: which are chosen would hang on rounding where two are as good.
EXPERTS = {"num_experts_per_tok": 4, "moe_intermediate_size": 16}

CONFIGS: dict[str, PretrainedConfig] = {
    "gemma2": Gemma2Config(
        **SMALL, **ALTERNATE, attn_logit_softcapping=1.0, query_pre_attn_scalar=5
    ),
    "gpt-oss": GptOssConfig(
        **SMALL, **ALTERNATE, num_local_experts=4, num_experts_per_tok=4,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "mistral": MistralConfig(**SMALL, sliding_window=4),
    "qwen2": Qwen2Config(**SMALL, use_sliding_window=True, max_window_layers=1, sliding_window=4),
    "gemma3": Gemma3TextConfig(**SMALL, **ALTERNATE),
    "phi3": Phi3Config(**SMALL, sliding_window=4),
    # It does not pass its window to attention.
    "qwen2-moe": Qwen2MoeConfig(
        **SMALL, **EXPERTS, num_experts=4, shared_expert_intermediate_size=16,
        use_sliding_window=True, max_window_layers=1, sliding_window=4,
    ),
    # Its values are narrower than its keys.
    "deepseek-v3": DeepseekV3Config(
        **SMALL | {"num_key_value_heads": 4}, **EXPERTS, n_routed_experts=4, n_group=1,
        topk_group=1, first_k_dense_replace=1, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8,
        qk_nope_head_dim=8, v_head_dim=12,
    ),
}  # fmt: skip


def any_model(seed: int, kind: str = "llama") -> PreTrainedModel:
    """Of the families here, or those of plain attention."""
    return family_model(kind, seed) if kind in CONFIGS else random_model(seed, kind)


def family_model(name: str, seed: int = 1, **changes: Any) -> PreTrainedModel:
    """A random model of a family; what starts at zero or one is random too."""
    torch.manual_seed(seed)
    config = CONFIGS[name].__class__(**CONFIGS[name].to_dict() | changes)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=1.0 if "sinks" in key else 0.1)
    return model
