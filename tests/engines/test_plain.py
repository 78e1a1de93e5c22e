"""The plain path gives the numbers of plain forwards, and a model finds its path by itself."""

import itertools
import math
from pathlib import Path
from typing import Any

import naive
import pytest
import torch
from conftest import VOCABULARY_SIZE, padded, random_model
from datasets import Dataset
from test_training import arguments
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    FalconConfig,
    FalconH1Config,
    JambaConfig,
    Lfm2Config,
    LlamaConfig,
    Mamba2Config,
    MptConfig,
    Phi3Config,
    PreTrainedModel,
    RwkvConfig,
)
from transformers.models.llama4 import Llama4TextConfig

from warmup_distill.engines import paths
from warmup_distill.engines.paths import Path as ModelPath
from warmup_distill.engines.paths import path_ahead, path_of
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import ModelError
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Check, Sample
from warmup_distill.scoring.agreement import agreement, measure_distances
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.warmup import WarmupTrainer
from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.plain import Habits, PlainModel

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip
MIXER: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8,
                         "mamba_n_groups": 1}  # fmt: skip
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0,
             "original_max_position_embeddings": 12, "short_factor": [1.0] * 4,
             "long_factor": [3.0] * 4}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "falcon_h1": FalconH1Config(**SMALL, mamba_d_ssm=64, **MIXER),  # attention and state in each
    "mamba2": Mamba2Config(vocab_size=VOCABULARY_SIZE, hidden_size=32, num_hidden_layers=2,
                           num_heads=8, head_dim=8, state_size=8, n_groups=1),
    "jamba": JambaConfig(**SMALL, attn_layer_period=2, attn_layer_offset=1, num_experts=2,
                         num_experts_per_tok=1, mamba_d_state=8),
    "lfm2": Lfm2Config(**SMALL, layer_types=["conv", "full_attention"]),
    "rwkv": RwkvConfig(vocab_size=VOCABULARY_SIZE, hidden_size=32, num_hidden_layers=2,
                       attention_hidden_size=32, context_length=64),
    "falcon": FalconConfig(vocab_size=VOCABULARY_SIZE, hidden_size=32, num_hidden_layers=2,
                           num_attention_heads=4, alibi=True, new_decoder_architecture=False),
    "bloom": BloomConfig(vocab_size=VOCABULARY_SIZE, hidden_size=32, n_layer=2, n_head=4),
    "mpt": MptConfig(vocab_size=VOCABULARY_SIZE, d_model=32, n_layers=2, n_heads=4),
    "llama4": Llama4TextConfig(**SMALL, head_dim=8, intermediate_size_mlp=48, num_local_experts=2,
                               attention_chunk_size=8),
    "phi3 by length": Phi3Config(**SMALL, max_position_embeddings=64, rope_parameters=LONG_ROPE,
                                 original_max_position_embeddings=12),
    "llama by length": LlamaConfig(**SMALL, max_position_embeddings=12, rope_parameters={
        "rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}),
}  # fmt: skip
PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]


def loud(config: Any, seed: int) -> PreTrainedModel:
    """A random model whose weights are large enough for every mistake to show."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 1.3 * math.prod(weights.shape[1:]) ** -0.5)
    return model.eval()


def roll_out(
    student: PreTrainedModel, teacher: PreTrainedModel, vocabulary: Vocabulary, **more: Any
) -> tuple[list[list[Sample]], list[list[Check]]]:
    engine = TransformersEngine(student, teacher, vocabulary, 4096)
    streams = [[10 * i, 10 * i + 1] for i in range(len(PROMPTS))]
    samples = engine.sample(PROMPTS, streams, max_new_tokens=14, temperature=1.0)
    settings = {"margin_threshold": 1.0, "temperature": 1.0, "stop_at_mismatch": False} | more
    checks = engine.check_and_continue(PROMPTS, samples, streams, max_new_tokens=14, **settings)
    return samples, checks


def pairs_of(samples: Any, checks: Any) -> list[dict[str, Any]]:
    return [
        {
            "prompt_ids": prompt,
            "chosen_ids": [*sample.ids[: check.mismatch_index], *check.continuation.ids],
            "rejected_ids": sample.ids,
            "mismatch_index": check.mismatch_index,
            "chosen_ref_logprob": sum(check.continuation_ref_logprobs),
            "rejected_ref_logprob": sum(sample.logprobs[check.mismatch_index :]),
        }
        for prompt, some, found in zip(PROMPTS, samples, checks, strict=True)
        for sample, check in zip(some, found, strict=True)
        if check.mismatch_index is not None
    ]


def alone(model: PreTrainedModel, prompt: list[int], completion: list[int]) -> Any:
    """By a plain forward; dynamic rotary positions forget longer texts only after a short one."""
    model(input_ids=torch.tensor([[5]]))
    return naive.logprobs(model, prompt, completion)


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(torch.as_tensor(found), expected.detach(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_family_that_the_tree_does_not_know_is_exact_on_the_plain_path(
    name: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    student, teacher = loud(CONFIGS[name], 0), loud(CONFIGS[name], 1)
    assert path_of(student).why is not None
    samples, checks = roll_out(student, teacher, vocabulary)
    for prompt, some, found in zip(PROMPTS, samples, checks, strict=True):
        for sample, check in zip(some, found, strict=True):
            close(sample.logprobs, alone(student, prompt, sample.ids))
            close(check.teacher_logprobs, alone(teacher, prompt, sample.ids))
            if check.continuation is None:
                continue
            start = [*prompt, *sample.ids[: check.mismatch_index]]
            ending = check.continuation.ids
            close(check.continuation.logprobs, alone(teacher, start, ending))
            close(check.continuation_ref_logprobs, alone(student, start, ending))
    rows = pairs_of(samples, checks)
    warmup = WarmupTrainer(
        model=student, vocabulary=vocabulary, beta=0.5, train_dataset=Dataset.from_list(rows),
        args=arguments(tmp_path, len(rows), 1, learning_rate=0.0),
    )  # fmt: skip
    warmup.train()
    assert warmup.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    student.eval()
    given = [
        {"prompt_ids": row["prompt_ids"], "completion_ids": row["rejected_ids"]} for row in rows
    ]
    distill = DistillTrainer(
        model=student, teacher=teacher, vocabulary=vocabulary, args=arguments(tmp_path, 4, 1),
        train_dataset=Dataset.from_list(given),
    )  # fmt: skip
    expected = []
    for row in given:
        p, q = (_distributions(m, **row) for m in (teacher, student))
        expected.append((p.exp() * (p - q)).sum(-1).flatten())
    close(distill.compute_loss(student, distill.data_collator(given)), torch.cat(expected).mean())


def _distributions(model: Any, prompt_ids: list[int], completion_ids: list[int]) -> Any:
    model(input_ids=torch.tensor([[5]]))
    return naive.completion_logits(model, prompt_ids, completion_ids).log_softmax(-1)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize(
    "habits", [Habits(), Habits(caches=False), Habits(splits=False), Habits(pads=False)]
)
def test_both_paths_draw_and_score_the_same(
    kind: str, habits: Habits, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = padded(random_model(1, kind), 50), padded(random_model(2, kind), 48)
    by_tree = roll_out(student, teacher, vocabulary)
    plain = ModelPath(why="a test", habits=habits)
    monkeypatch.setattr(paths, "_known", {student: plain, teacher: plain})
    plainly = roll_out(student, teacher, vocabulary)
    for one, other in zip(_flat(by_tree[0]), _flat(plainly[0]), strict=True):
        assert (one.ids, one.finish_reason) == (other.ids, other.finish_reason)
        close(other.logprobs, torch.tensor(one.logprobs))
    for one, other in zip(_flat(by_tree[1]), _flat(plainly[1]), strict=True):
        assert one.mismatch_index == other.mismatch_index
        close(other.teacher_logprobs, torch.tensor(one.teacher_logprobs))
        if one.continuation:
            assert other.continuation and one.continuation.ids == other.continuation.ids
            close(other.continuation_ref_logprobs, torch.tensor(one.continuation_ref_logprobs))


def _flat(groups: Any) -> list[Any]:
    return [one for group in groups for one in group]


def test_a_greedy_ban_of_n_grams_and_a_stop_at_the_mismatch_work_plainly_too(
    vocabulary: Vocabulary,
) -> None:
    model, other = loud(CONFIGS["mamba2"], 0), loud(CONFIGS["mamba2"], 1)
    engine = TransformersEngine(model, other, vocabulary, 4096)
    ((sample,),) = engine.sample(
        [[5, 6]], [[0]], max_new_tokens=30, temperature=0.0, no_repeat_ngram_size=2
    )
    text = [5, 6, *sample.ids]
    grams = list(itertools.pairwise(text))
    assert len(set(grams)) == len(grams)
    samples, checks = roll_out(model, other, vocabulary, stop_at_mismatch=True)
    for one, check in zip(_flat(samples), _flat(checks), strict=True):
        seen = len(one.ids) if check.mismatch_index is None else check.mismatch_index + 1
        assert len(check.teacher_logprobs) == seen


def test_a_student_on_one_path_learns_from_a_teacher_on_the_other(vocabulary: Vocabulary) -> None:
    student, teacher = random_model(1), loud(CONFIGS["falcon_h1"], 1)
    samples, checks = roll_out(student, teacher, vocabulary)
    for prompt, some, found in zip(PROMPTS, samples, checks, strict=True):
        for sample, check in zip(some, found, strict=True):
            close(check.teacher_logprobs, alone(teacher, prompt, sample.ids))
    engine = TransformersEngine(student, teacher, vocabulary, 4096)
    distances = measure_distances(
        engine.student, engine.teacher, PROMPTS, [some[0].ids for some in samples],
        margin_threshold=1.0, batch_tokens=64,
    )  # fmt: skip
    with torch.no_grad():
        margins = torch.cat([
            alone(student, prompt, some[0].ids) - alone(teacher, prompt, some[0].ids)
            for prompt, some in zip(PROMPTS, samples, strict=True)
        ])  # fmt: skip
    assert agreement(distances).mean_margin == pytest.approx(float(margins.mean()), abs=1e-4)


@pytest.mark.parametrize("keep_prefix", [False, True])
def test_pairs_apart_have_the_loss_and_gradients_of_pairs_as_trees(
    keep_prefix: bool, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_training import only_row, warmup_trainer

    settings: dict[str, Any] = {"loss": "ipo"} if keep_prefix else {}
    found = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(
                "warmup_distill.training.base.packed_model",
                lambda model, vocabulary: PlainModel(model, vocabulary, Habits()),
            )
        trainer = warmup_trainer(vocabulary, tmp_path, (4, 1), **settings)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.mul_(1.05)
        loss = trainer.compute_loss(trainer.model, only_row(trainer))
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
        found.append((loss.detach(), gradients))
    close(found[1][0], found[0][0])
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_path_is_known_before_the_weights_are(name: str) -> None:
    ahead = path_ahead(CONFIGS[name])
    assert ahead is not None and ahead.why is not None
    assert str(ahead).startswith("plain: ")


def test_a_family_that_follows_the_tree_takes_it() -> None:
    model = random_model(1)
    assert str(path_of(model)) == str(path_ahead(model.config)) == "token tree"


def test_what_depends_on_length_is_never_padded_and_what_does_not_is() -> None:
    assert not path_of(loud(CONFIGS["phi3 by length"], 0)).habits.pads
    assert not path_of(loud(CONFIGS["llama by length"], 0)).habits.pads
    assert path_of(loud(CONFIGS["bloom"], 0)).habits.pads


def test_a_model_that_sees_what_follows_is_refused_in_words(vocabulary: Vocabulary) -> None:
    config = BertConfig(
        vocab_size=VOCABULARY_SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4,
    )  # fmt: skip
    model = BertLMHeadModel(config).eval()
    with pytest.raises(ModelError, match="reads from left to right"):
        TransformersEngine(model, model, vocabulary, 100)


def test_finding_the_path_leaves_model_and_random_numbers_as_they_were() -> None:
    model = loud(CONFIGS["falcon"], 0).train()
    before, attention = torch.get_rng_state(), model.config._attn_implementation
    path_of(model)
    assert model.training and model.config._attn_implementation == attention
    assert torch.equal(before, torch.get_rng_state())


def test_a_tree_and_a_plain_model_share_logits_and_heads(vocabulary: Vocabulary) -> None:
    model = padded(random_model(1), 50)
    tree, plain = TreeModel(model, vocabulary), PlainModel(model, vocabulary, Habits(splits=False))
    found = []
    for one in (tree, plain):
        with one.following(), torch.no_grad():
            hidden, targets = one.completion_hidden([[5, 6], [7]], [[8, 9, 1], [10, 11]])
            found.append(one.logprobs(hidden, targets))
    close(found[1], found[0])
