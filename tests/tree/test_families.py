"""Caps, sinks and windows of attention against separate sequences, one family each.

Tolerances are of float32: other orders of the same sums.
"""

import math
from pathlib import Path
from typing import Any

import naive
import pytest
import torch
from conftest import VOCABULARY_SIZE
from datasets import Dataset
from families import CONFIGS, SMALL, family_model
from test_training import arguments
from torch import Tensor
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    BloomConfig,
    DiffLlamaConfig,
    DogeConfig,
    Gemma2Config,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PretrainedConfig,
    PreTrainedModel,
)

from warmup_distill.engines.paths import path_of
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import ModelError
from warmup_distill.losses import dpo
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.warmup import WarmupTrainer
from warmup_distill.tree import attention, rules
from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.pack import Pack, pack_completions
from warmup_distill.tree.pairs import CHOSEN, REJECTED, PairTree, plant

FAMILIES = list(CONFIGS)
CPU = torch.device("cpu")

ROWS = [
    ([5, 6, 7, 9, 11, 12, 13, 14], [2, 3, 4, 8, 9]),
    ([5, 6], [3, 2, 7, 8, 9, 10, 11, 30, 31, 32]),
    ([20], [21, 22, 23]),  # within the windows
    ([9] * 11, [2, 3]),
]
"""Prompts and completions."""

PAIRS = [
    ([5, 6, 7, 9, 11], [12, 13, 14], [2, 3, 4, 8, 9, 10], [33, 4, 5]),
    ([5, 6, 7, 9, 11], [], [8, 9, 10, 11, 12], [7]),
    ([20], [21, 22, 23, 24, 25], [30, 1], [31, 32, 33, 34, 35, 36, 1]),
]
"""Prompt, shared prefix, chosen and rejected ending."""


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def close(found: Any, expected: Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(found), expected, atol=1e-4, rtol=0)


def test_the_token_tree_serves(family: str) -> None:
    assert path_of(family_model(family)).why is None


def packed_logprobs(model: TreeModel, rows: list[Any]) -> Tensor:
    batch = pack_completions(*(list(column) for column in zip(*rows, strict=True)))
    with model.following():
        hidden = model.hidden(batch["input_ids"], Pack(batch["lengths"].tolist(), CPU))
        return model.logprobs(hidden[batch["predictors"]], batch["targets"])


def test_packed_rows_have_the_log_probabilities_of_separate_sequences(
    family: str, vocabulary: Vocabulary
) -> None:
    model = family_model(family)
    found = packed_logprobs(TreeModel(model, vocabulary), ROWS)
    close(found, torch.cat([naive.logprobs(model, *row) for row in ROWS]))


@pytest.mark.parametrize("window", [1, 2, 11, 12, 13, 99])
@pytest.mark.parametrize("family", ["gemma2", "mistral"])
def test_a_window_counts_the_token_itself_whatever_its_size(
    family: str, window: int, vocabulary: Vocabulary
) -> None:
    """The longest text that runs has 12 tokens."""
    model = family_model(family, sliding_window=window)
    found = packed_logprobs(TreeModel(model, vocabulary), ROWS)
    close(found, torch.cat([naive.logprobs(model, *row) for row in ROWS]))


def as_pairs(reference: PreTrainedModel | None = None) -> list[dict[str, Any]]:
    rows = []
    for prompt, prefix, *endings in PAIRS:
        row: dict[str, Any] = {"prompt_ids": prompt, "mismatch_index": len(prefix)}
        for name, ending in zip(("chosen", "rejected"), endings, strict=True):
            row[f"{name}_ids"] = prefix + ending
            if reference:
                logprobs = naive.logprobs(reference, prompt + prefix, ending)
                row[f"{name}_ref_logprob"] = float(logprobs.detach().sum())
        rows.append(row)
    return rows


@pytest.mark.parametrize("at_once", [2**24, 100], ids=["all at once", "in blocks"])
def test_pair_trees_have_the_loss_and_the_gradients_of_separate_sequences(
    family: str, at_once: int, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LOGITS_AT_ONCE", at_once)
    model = family_model(family)
    wrapped, batch = TreeModel(model, vocabulary), plant(as_pairs(), keep_prefix=False)
    tree = PairTree(batch["prompts"], batch["owners"], batch["parts"])
    with wrapped.following():
        hidden = wrapped.hidden(batch["input_ids"], tree)[batch["predictors"]]
        logprobs = wrapped.logprobs(hidden, batch["targets"])
    cells = batch["part"], batch["pair"]
    sums = logprobs.new_zeros(3, len(PAIRS)).index_put(cells, logprobs, accumulate=True)
    found = dpo(sums[CHOSEN], sums[REJECTED], torch.tensor(0.3), torch.tensor(-0.2), beta=0.1)
    found.sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    chosen, rejected = (
        torch.stack([naive.logprobs(model, row[0] + row[1], row[2 + side]).sum() for row in PAIRS])
        for side in (0, 1)
    )
    expected = dpo(chosen, rejected, torch.tensor(0.3), torch.tensor(-0.2), beta=0.1)
    expected.sum().backward()
    close(found, expected)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("fresh", [False, True], ids=["tree kept", "tree made again"])
def test_samples_checks_and_continuations_beyond_the_window_are_those_of_separate_sequences(
    family: str, fresh: bool, vocabulary: Vocabulary
) -> None:
    models = student, teacher = family_model(family, 1), family_model(family, 2)
    prompts = [prompt for prompt, _ in ROWS]
    streams = [[stream(p, i) for i in range(3)] for p in range(len(prompts))]
    engine = TransformersEngine(*models, vocabulary, 150)
    samples = engine.sample(prompts, streams, max_new_tokens=12, temperature=1.0)
    engine = TransformersEngine(*models, vocabulary, 150) if fresh else engine
    checks = engine.check_and_continue(
        prompts, samples, streams,
        margin_threshold=2.0, max_new_tokens=12, temperature=1.0, stop_at_mismatch=False,
    )  # fmt: skip
    continued = 0
    for prompt, *groups in zip(prompts, samples, checks, strict=True):
        for drawn, check in zip(*groups, strict=True):
            close(drawn.logprobs, naive.logprobs(student, prompt, drawn.ids))
            close(check.teacher_logprobs, naive.logprobs(teacher, prompt, drawn.ids))
            if check.continuation is None:
                continue
            prefix = [*prompt, *drawn.ids[: check.mismatch_index]]
            ending = check.continuation
            continued += len(prefix) + len(ending.ids) > 4
            close(ending.logprobs, naive.logprobs(teacher, prefix, ending.ids))
            close(check.continuation_ref_logprobs, naive.logprobs(student, prefix, ending.ids))
    assert continued


@pytest.mark.parametrize("family", ["gemma2", "gpt-oss"])
def test_dpo_starts_at_ln_2_where_attention_is_capped_or_sunk(
    family: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    model = family_model(family)
    trainer = WarmupTrainer(
        model=model, vocabulary=vocabulary, beta=0.5, args=arguments(tmp_path, 3, 1),
        train_dataset=Dataset.from_list(as_pairs(model)),
    )  # fmt: skip
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "gpt-oss"])
def test_distillation_where_attention_is_capped_or_sunk_has_the_divergence_of_full_logits(
    family: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    student, teacher = family_model(family, 1), family_model(family, 2)
    values = []
    for row in ROWS:
        q, p = (naive.completion_logits(m, *row).log_softmax(-1) for m in (student, teacher))
        values.append((p.exp() * (p - q)).sum(-1).detach())
    trainer = DistillTrainer(
        model=student, teacher=teacher, vocabulary=vocabulary, args=arguments(tmp_path, 4, 1),
        train_dataset=Dataset.from_list(
            [{"prompt_ids": prompt, "completion_ids": completion} for prompt, completion in ROWS]
        ),
    )  # fmt: skip
    trainer.train()
    loss = trainer.state.log_history[0]["loss"]
    assert loss == pytest.approx(float(torch.cat(values).mean()), abs=1e-4)


def test_models_inside_a_model_get_their_own_attention_back(vocabulary: Vocabulary) -> None:
    """A text model that must not run by SDPA beside a vision model that does."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14, "projection_dim": 32}
    text = Gemma2Config(**SMALL)
    config = PaliGemmaConfig(vision_config=vision, text_config=text, projection_dim=32)
    model = PaliGemmaForConditionalGeneration(config).eval()
    model.set_attn_implementation({"": "sdpa", "text_config": "eager", "vision_config": "sdpa"})
    with TreeModel(model, vocabulary).following():
        assert model.config.text_config._attn_implementation == attention.NAME
    assert model.config._attn_implementation == "sdpa"
    assert model.config.text_config._attn_implementation == "eager"
    assert model.config.vision_config._attn_implementation == "sdpa"


REFUSED: list[tuple[PretrainedConfig, str]] = [
    (
        MambaConfig(vocab_size=VOCABULARY_SIZE, hidden_size=32, num_hidden_layers=2),
        "0 of its 2 layers attend",
    ),
    (BloomConfig(vocab_size=VOCABULARY_SIZE, hidden_size=32, n_layer=2, n_head=4), "Interface"),
    (DiffLlamaConfig(**SMALL), "4 times in all"),
    (DogeConfig(**SMALL), "a mask of its own"),
    (LlamaConfig(**SMALL, is_causal=False), "it uses is_causal"),
    (MistralConfig(**SMALL, sliding_window=0), "a mask of its own"),  # it sees nothing at all
    (Llama4TextConfig(**SMALL, attention_chunk_size=4), "a mask of its own"),
]


@pytest.mark.parametrize(("config", "why"), REFUSED, ids=lambda x: getattr(x, "model_type", ""))
def test_attention_that_is_more_than_known_here_is_left_alone_before_anything_is_computed(
    config: PretrainedConfig, why: str, vocabulary: Vocabulary
) -> None:
    model = AutoModelForCausalLM.from_config(config).eval()
    before = model.config._attn_implementation
    with pytest.raises(ModelError, match=why):
        TreeModel(model, vocabulary)
    assert model.config._attn_implementation == before


EFFECTS = [
    {"position_bias": torch.zeros(1)},
    {"block_indices": torch.zeros(1)},
    {"cu_seq_lens_q": torch.zeros(2)},
    {"is_causal": False},
    {"attention_mask": torch.zeros(1, 1, 3, 3)},
]


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: next(iter(effect)))
def test_arguments_of_attention_with_an_effect_that_is_not_known_here_are_refused(
    effect: dict[str, Any],
) -> None:
    model = family_model("mistral")
    layer = model.get_decoder().layers[0].self_attn
    rows = [torch.zeros(1, heads, 3, 8) for heads in (4, 2, 2)]
    attend, pack = AttentionInterface()[attention.NAME], Pack([3], CPU)
    without = {"position_bias": None, "is_causal": True, "output_attentions": False, "dropout": 0.1}
    plain = {"attention_mask": None, "layout": pack}
    output, _ = attend(layer, *rows, **plain, **without)
    assert output.shape == (1, 3, 4, 8)
    with pytest.raises(ModelError, match="MistralAttention"):
        attend(layer, *rows, **plain | effect)
