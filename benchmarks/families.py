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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel, TrainingArguments
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging as transformers_logging

from warmup_distill.engines.paths import path_of
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.loading import load_model
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Check, Sample
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.warmup import WarmupTrainer

TOKENS = 64
VOCABULARY = Vocabulary(size=TOKENS, eos_ids=frozenset({1}), pad_id=0)
PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
TARGET = Path(__file__).parents[1] / "docs" / "models.md"
LARGEST = 10_000_000
"""Parameters of a model that counts as tiny."""
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
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "kv_lora_rank": 16,
    "q_lora_rank": 16, "n_group": 1, "topk_group": 1, "rotary_dim": 8, "dropout": 0.0,
    "attention_dropout": 0.0,
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
    trace: str = ""

    @property
    def sound(self) -> bool:
        differences = (self.rollouts, self.distill, self.reload)
        started = self.loss is not None and abs(self.loss - math.log(2)) < 1e-3
        return started and all(value is not None and value < EXACT for value in differences)


def tiny(family: str, changes: dict[str, Any], seed: int) -> PreTrainedModel:
    """A random model of a family, loud enough that a wrong token shows."""
    config = CONFIG_MAPPING[family]().get_text_config(decoder=True)
    kind = type(config)
    taken = {name: value for name, value in SMALL.items() if _settable(config, name)}
    taken |= changes
    layers = taken.get("num_hidden_layers", 2)
    for name in ("layer_types", "mlp_layer_types"):
        kinds = getattr(config, name, None)
        if isinstance(kinds, list) and _settable(config, name) and name not in taken:
            taken[name] = _kinds(kinds, layers)
    config = kind(**taken)
    with torch.device("meta"):
        size = AutoModelForCausalLM.from_config(config).num_parameters()
    if size > LARGEST:
        raise ValueError(f"{size:,} parameters: this family has another name for some size")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 1.3 * math.prod(weights.shape[1:]) ** -0.5)
        embeddings = model.get_input_embeddings()
        if getattr(embeddings, "padding_idx", None) is not None:
            embeddings.weight[embeddings.padding_idx] = 0.0  # as it is made, and loaded by some
    return model.eval()


def _settable(config: Any, name: str) -> bool:
    """Whether a configuration has a field of that name, rather than a property made of others."""
    own = type(config).attribute_map.get(name, name)
    return hasattr(config, name) and not isinstance(getattr(type(config), own, None), property)


def _kinds(kinds: list[str], layers: int) -> list[str]:
    """So many layers, of all kinds in turn."""
    each = list(dict.fromkeys(kinds))
    return [each[i % len(each)] for i in range(layers)]


def examine(variant: Variant) -> Result:
    """Everything about one variant; a failure is part of the result."""
    result = Result(label=variant.label)
    try:
        student, teacher = (tiny(variant.family, variant.changes, seed) for seed in (0, 1))
        result.path = str(path_of(student))
        samples, checks = _rollouts(student, teacher)
        result.rollouts = _off(student, teacher, samples, checks)
        result.loss = _first_loss(student, samples, checks)
        result.distill = _distillation(student, teacher, samples)
        result.reload = _reloaded(student)
    except Exception as error:  # a row of the table, not the end of it
        result.failure = (
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
        result.trace = traceback.format_exc()
    return result


def _rollouts(
    student: PreTrainedModel, teacher: PreTrainedModel
) -> tuple[list[list[Sample]], list[list[Check]]]:
    engine = TransformersEngine(student, teacher, VOCABULARY, 4096)
    streams = [[10 * i, 10 * i + 1] for i in range(len(PROMPTS))]
    samples = engine.sample(PROMPTS, streams, max_new_tokens=14, temperature=1.0)
    checks = engine.check_and_continue(
        PROMPTS, samples, streams, margin_threshold=0.05, max_new_tokens=14, temperature=1.0,
        stop_at_mismatch=False,
    )  # fmt: skip
    return samples, checks


@torch.no_grad()
def naive(model: PreTrainedModel, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """Log-probabilities [T, V] at each completion token by one plain forward."""
    ids = torch.tensor([[*prompt, *completion]])
    model(input_ids=ids[:, :1])  # dynamic rotary positions forget longer texts only now
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1, :TOKENS]
    return logits.float().log_softmax(-1)


def _of(model: PreTrainedModel, prompt: list[int], completion: list[int]) -> torch.Tensor:
    return naive(model, prompt, completion).gather(-1, torch.tensor(completion)[:, None])[:, 0]


def _off(student: Any, teacher: Any, samples: Any, checks: Any) -> float:
    """The largest difference of any log-probability of the rollouts."""
    worst = 0.0
    for prompt, some, found in zip(PROMPTS, samples, checks, strict=True):
        for sample, check in zip(some, found, strict=True):
            pairs = [(sample.logprobs, _of(student, prompt, sample.ids)),
                     (check.teacher_logprobs, _of(teacher, prompt, sample.ids))]  # fmt: skip
            if check.continuation:
                kept, ending = sample.ids[: check.mismatch_index], check.continuation.ids
                whole = [*kept, *ending]
                pairs += [
                    (check.continuation.logprobs, _of(teacher, prompt, whole)[len(kept) :]),
                    (check.continuation_ref_logprobs, _of(student, prompt, whole)[len(kept) :]),
                ]
            for found_values, expected in pairs:
                difference = (torch.tensor(found_values) - expected).abs().max()
                worst = max(worst, float(difference))
    return worst


def _first_loss(student: PreTrainedModel, samples: Any, checks: Any) -> float:
    """DPO's loss before the first step, by the trainer, on the pairs of the rollouts."""
    rows = []
    for prompt, some, found in zip(PROMPTS, samples, checks, strict=True):
        for sample, check in zip(some, found, strict=True):
            cut = check.mismatch_index
            if cut is not None:
                chosen = [*sample.ids[:cut], *check.continuation.ids]
                rows.append({
                    "prompt_ids": prompt, "chosen_ids": chosen,
                    "rejected_ids": sample.ids, "mismatch_index": cut,
                    "chosen_ref_logprob": sum(check.continuation_ref_logprobs),
                    "rejected_ref_logprob": sum(sample.logprobs[cut:]),
                })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = WarmupTrainer(
            model=student, vocabulary=VOCABULARY, beta=0.5, train_dataset=Dataset.from_list(rows),
            args=_arguments(folder, len(rows)),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    student.eval()
    return float(trainer.state.log_history[0]["loss"])


def _distillation(student: PreTrainedModel, teacher: PreTrainedModel, samples: Any) -> float:
    """Forward KL by the trainer, against plain forwards."""
    rows = [{"prompt_ids": prompt, "completion_ids": sample.ids}
            for prompt, some in zip(PROMPTS, samples, strict=True) for sample in some]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = DistillTrainer(
            model=student, teacher=teacher, vocabulary=VOCABULARY,
            train_dataset=Dataset.from_list(rows),
            args=_arguments(folder, len(rows)),
        )  # fmt: skip
        found = float(trainer.compute_loss(student, trainer.data_collator(rows)))
    values = []
    for row in rows:
        p, q = (
            naive(model, row["prompt_ids"], row["completion_ids"]) for model in (teacher, student)
        )
        values.append(F.kl_div(q, p, reduction="none", log_target=True).sum(-1))
    return abs(found - float(torch.cat(values).mean()))


def _reloaded(student: PreTrainedModel) -> float:
    """How far a model that was saved and loaded is from itself."""
    expected = naive(student, PROMPTS[0], [15, 16, 17])
    with tempfile.TemporaryDirectory() as folder:
        student.save_pretrained(folder)
        again = load_model(folder)
    return float((naive(again, PROMPTS[0], [15, 16, 17]) - expected).abs().max())


def _arguments(folder: str, batch: int) -> TrainingArguments:
    """One step over everything that moves no weight."""
    return TrainingArguments(
        output_dir=folder, max_steps=1, per_device_train_batch_size=batch, learning_rate=0.0,
        logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        dataloader_pin_memory=False, remove_unused_columns=False,
    )  # fmt: skip


_TEXT = {"bos_token_id": 2}
LATENT = ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "kimi_linear", "minicpm3",
          "longcat_flash", "youtu", "bailing_hybrid")  # fmt: skip
"""Families with latent attention, in which every head has keys of its own."""
CHANGES: dict[str, dict[str, Any]] = {
    "bert": {"is_decoder": True},
    "bert-generation": {"is_decoder": True},
    "big_bird": {"is_decoder": True, "attention_type": "original_full"},
    "camembert": {"is_decoder": True},
    "data2vec-text": {"is_decoder": True},
    "electra": {"is_decoder": True},
    "ernie": {"is_decoder": True},
    "megatron-bert": {"is_decoder": True},
    "rembert": {"is_decoder": True},
    "roberta": {"is_decoder": True},
    "roberta-prelayernorm": {"is_decoder": True},
    "roc_bert": {"is_decoder": True},
    "roformer": {"is_decoder": True},
    "xlm-roberta": {"is_decoder": True},
    "xlm-roberta-xl": {"is_decoder": True},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "xlm": {"causal": True, "n_layers": 2, "n_heads": 4, "emb_dim": 32},
    "reformer": {"is_decoder": True},
    "cwm": _TEXT,
    "emu3": _TEXT,
    "mllama": _TEXT,
    "modernbert-decoder": _TEXT,
    **{family: {"num_key_value_heads": 4} for family in LATENT},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4},
        "n_heads": 4,
        "n_layers": 2,
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
        "vocab_size_per_layer_input": TOKENS,
        "layer_types": ["sliding_attention", "full_attention"],
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "zaya": {"num_experts_per_tok": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2, "state_size": 16, "n_groups": 1},
    "falcon_h1": {
        "mamba_d_ssm": 64,
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 16,
        "mamba_n_groups": 1,
    },
    "bamba": {
        "attn_layer_indices": [1],
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 16,
        "mamba_n_groups": 1,
    },
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"],
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 16,
        "mamba_n_groups": 1,
    },
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": 4, "lru_width": 32},
}
"""What a family needs besides to be tiny, or to be a language model that reads forwards."""

_WINDOW = {"sliding_window": 4}
_LONG = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "short_factor": [1.0] * 4,
         "long_factor": [3.0] * 4, "original_max_position_embeddings": 12}  # fmt: skip
_DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}

VARIANTS = [
    Variant(family=family, label=f"{family}, {what}", changes=CHANGES.get(family, {}) | changes)
    for family, what, changes in (
        ("llama", "tied head", {"tie_word_embeddings": True}),
        ("llama", "dynamic rotary", {"rope_parameters": _DYNAMIC, "max_position_embeddings": 12}),
        ("llama", "one head of keys", {"num_key_value_heads": 1}),
        ("llama", "biases", {"attention_bias": True, "mlp_bias": True}),
        ("qwen2", "tied head", {"tie_word_embeddings": True}),
        ("qwen2", "windows", _WINDOW | {"use_sliding_window": True, "max_window_layers": 1}),
        ("qwen3", "tied head", {"tie_word_embeddings": True}),
        ("qwen3_moe", "tied head", {"tie_word_embeddings": True}),
        ("mistral", "window of 4", _WINDOW),
        ("mixtral", "window of 4", _WINDOW),
        ("mixtral", "tied head", {"tie_word_embeddings": True}),
        ("phi3", "window of 4", _WINDOW),
        ("phi3", "long rotary", {"rope_parameters": _LONG, "original_max_position_embeddings": 12}),
        ("gemma2", "window of 4", _WINDOW),
        ("gemma3_text", "window of 4", _WINDOW),
        ("gpt_oss", "window of 4", _WINDOW),
        ("starcoder2", "window of 4", _WINDOW),
        ("olmo3", "window of 4", _WINDOW),
        ("cohere2", "window of 4", _WINDOW),
        ("falcon", "alibi", {"alibi": True}),
        ("falcon", "new decoder", {"new_decoder_architecture": True, "num_kv_heads": 2}),
        ("llama4_text", "chunks of 8", {"attention_chunk_size": 8}),
        ("gpt2", "untied head", {"tie_word_embeddings": False}),
        ("gemma", "untied head", {"tie_word_embeddings": False}),
        ("jamba", "tied head", {"tie_word_embeddings": True}),
        ("mamba2", "tied head", {"tie_word_embeddings": True}),
    )
]
"""More than one of a family: windows, rotary positions by length, tied and untied heads."""

LEFT_OUT = {
    "blt": "patches of bytes, made by a second model",
    "cpmant": "reads its prompt in both directions",
    "prophetnet": "predicts several tokens ahead by streams of its own",
    "xlnet": "reads in permuted order",
    "xlm": "counts its text by padding tokens, so that a drawn one changes what came before it",
    "reformer": "hashes tokens into buckets with random numbers",
    "git": "captions of pictures", "mllama": "pictures", "emu3": "pictures", "fuyu": "pictures",
    "phi4_multimodal": "pictures and speech", "got_ocr2": "pictures",
    "musicgen": "music", "musicgen_melody": "music", "moshi": "speech", "whisper": "speech",
    "gemma4_assistant": "drafts for another model", "gemma4_unified_assistant": "the same",
}  # fmt: skip
"""Listed by `transformers` as causal, but no model that continues one text from left to right."""


def variants(names: list[str]) -> list[Variant]:
    """Those asked for, or all."""
    families = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(LEFT_OUT))
    every = [Variant(family=f, label=f, changes=CHANGES.get(f, {})) for f in families]
    return [one for one in every + VARIANTS if not names or one.family in names]


def page(results: list[Result]) -> str:
    """docs/models.md."""
    tried = [one for one in results if one.path]
    made = [one.label for one in results if not one.path]
    plain = [one for one in tried if not one.path.startswith("token tree")]
    lines = [
        "# Models", "",
        "Written by `python benchmarks/families.py`. Every family that `transformers` "
        f"{version('transformers')} offers as a causal language model was made tiny with random "
        "weights and tried in float32: rollouts against plain forwards of each sequence alone, the "
        "warm-up's first loss (ln 2 = 0.6931), the distillation's loss against the naive one, and "
        "a model that was saved and loaded against itself. Differences are in nats.", "",
        f"{len(tried)} models, {sum(one.sound for one in tried)} exact: "
        f"{len(tried) - len(plain)} on the token tree, {len(plain)} on the plain path, which is "
        "slower and as exact. A model's path is found out when it is loaded; `warmup-distill plan` "
        "and the manifest say which and why.", "",
        "| family | path | rollouts | first loss | distillation | reload |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(one) for one in tried), "",
        "Not language models that go from left to right over one text, and so left out: "
        + "; ".join(f"{name} ({why})" for name, why in sorted(LEFT_OUT.items())) + ".",
    ]  # fmt: skip
    if made:
        lines += ["", "Not made tiny by this script, and so not tried: " + ", ".join(made) + "."]
    return "\n".join(lines) + "\n"


def _row(result: Result) -> str:
    path, _, why = result.path.partition(": ")
    numbers = (result.rollouts, result.loss, result.distill, result.reload)
    shown = ["–" if n is None else f"{n:.4f}" if n is result.loss else f"{n:.0e}" for n in numbers]
    cells = [result.label, f"{path}: {_short(why)}" if why else path, *shown]
    return "| " + " | ".join(cells) + " |"


def _short(why: str) -> str:
    """The reason without the name of the error and of the class."""
    return why.partition(": ")[2].partition(". ")[0] or why


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("families", nargs="*", help="all if absent, and the page is written")
    parser.add_argument("--verbose", action="store_true", help="say where a failure came from")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    results = []
    for variant in variants(options.families):
        result = examine(variant)
        results.append(result)
        print("ok  " if result.sound else "FAIL", _line(result), flush=True)
        if options.verbose and result.trace:
            print(result.trace)
    print(f"{sum(one.sound for one in results)} of {len(results)} sound")
    if not options.families:
        TARGET.write_text(page(results), encoding="utf-8")


def _line(result: Result) -> str:
    numbers = (result.rollouts, result.loss, result.distill, result.reload)
    shown = "  ".join("-" if one is None else f"{one:.2g}" for one in numbers)
    return f"{result.label:<28} {result.path[:60]:<60} {shown}  {result.failure[:150]}"


if __name__ == "__main__":
    main()
