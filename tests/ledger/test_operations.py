"""Operations that are counted are those that a profiler sees, and those that a hand works out."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    TrainingArguments,
)

from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.ledger.costs import costs, total, training_costs
from warmup_distill.ledger.counting import Passes, of_drawn, of_rollouts, of_row
from warmup_distill.ledger.passes import NOTHING, Pass, operations, training_operations
from warmup_distill.models.sizes import Sizes, sizes_of
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe import RolloutsSection
from warmup_distill.records import Prompt
from warmup_distill.stages.rollouts import roll_out
from warmup_distill.training.completions import StudentShare
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.warmup import WarmupTrainer
from warmup_distill.tree import packed

# Wide enough for attention, which a profiler counts with its padding, to be little of the whole;
# and without an end, so that nothing is drawn and dropped.
SHAPE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 256, "intermediate_size": 640, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": False,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
VOCABULARY = Vocabulary(size=300, eos_ids=frozenset(), pad_id=0)
PROMPTS = [list(range(10 + i, 30 + 2 * i)) for i in range(6)]
CLOSE = 0.05


def llama(layers: int, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, **SHAPE)).eval()


STUDENT, TEACHER = llama(2, seed=1), llama(3, seed=2)
MODELS = {"student": sizes_of(STUDENT.config), "teacher": sizes_of(TEACHER.config)}


class Everywhere(nullcontext[None]):
    """In place of a tracker of modules, whose hooks do not stand gradients in a forward pass."""

    parents = frozenset({"Global"})


def profiled(work: Callable[[], Any]) -> int:
    """What torch's own profiler counts of some work, attention in plain matrix products."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Everywhere()  # type: ignore[assignment]
    with sdpa_kernel(SDPBackend.MATH), counter:
        work()
    return counter.get_total_flops()


def sizes(**changes: int) -> Sizes:
    values = dict.fromkeys(Sizes.__annotations__, 0)
    return Sizes(
        **(values | {"layers": 2, "attention_width": 4, "body": 100, "head": 30} | changes)
    )


def test_a_pass_counts_the_keys_of_every_token() -> None:
    # three tokens behind ten attend to 11, 12 and 13
    assert Pass.of(10, 3, 2) == Pass(tokens=3, keys=36, predictions=2)
    assert Pass.of(0, 4) + Pass.of(4, 3, 2) == Pass(tokens=7, keys=10 + 18, predictions=2)


def test_operations_of_a_tiny_shape_are_those_worked_by_hand() -> None:
    # 2 x 100 for each of 5 tokens, 4 x 2 x 4 for each of 15 keys, 2 x 30 for each of 3 predictions
    one = Pass.of(0, 5, 3)
    assert operations(one, sizes()) == 1000 + 480 + 180
    # forward and twice as much backward; 4 logits once more
    assert training_operations(one, Pass(predictions=4), sizes()) == 3 * 1660 + 240
    # all layers once more, but for the last product of each, here of 20 weights in all
    again = Pass(tokens=5, keys=15)
    assert training_operations(one, again, sizes(ends=20)) == 3 * 1660 + 1480 - 2 * 20 * 5
    # weights without gradients take two of three; 7 numbers of adapters take three, and one again
    assert training_operations(one, again, sizes(ends=20), adapters=7) == (
        2 * 1180 + 3 * 480 + 1480 + 2 * 7 * (15 + 5)
    )


def test_the_sizes_of_a_llama_are_those_worked_by_hand() -> None:
    # queries and outputs, keys and values, three of the feed-forward part; two layers
    layer = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 640
    found = MODELS["student"]
    assert (found.body, found.head) == (2 * layer, 300 * 256)
    assert (found.attention_width, found.ends) == (256, 2 * 256 * 640)


def test_a_token_is_multiplied_with_the_experts_that_it_takes_alone() -> None:
    config = Qwen2MoeConfig(
        **SHAPE | {"num_hidden_layers": 1, "moe_intermediate_size": 96, "num_experts": 8,
                   "shared_expert_intermediate_size": 160, "num_experts_per_tok": 2}
    )  # fmt: skip
    attention, router = 2 * 256 * 256 + 2 * 256 * 128, 8 * 256
    shared = 3 * 256 * 160 + 256
    assert sizes_of(config).body == attention + router + shared + 2 * 3 * 256 * 96
    model = Qwen2MoeForCausalLM._from_config(config, experts_implementation="eager").eval()
    ids = torch.tensor([PROMPTS[0]])
    seen = profiled(lambda: model(input_ids=ids))
    assert operations(Pass.of(0, 20, 20), sizes_of(config)) == pytest.approx(seen, rel=CLOSE)


def test_positions_that_are_looked_up_are_no_products() -> None:
    config = GPT2Config(n_embd=256, n_layer=2, n_head=4, n_positions=512, vocab_size=300)
    model = GPT2LMHeadModel(config).eval()
    seen = profiled(lambda: model(input_ids=torch.tensor([PROMPTS[0]])))
    assert operations(Pass.of(0, 20, 20), sizes_of(config)) == pytest.approx(seen, rel=CLOSE)


def test_sampling_runs_what_is_counted() -> None:
    engine = TransformersEngine(STUDENT, TEACHER, VOCABULARY, 4096)
    streams = [[10 * i + n for n in range(3)] for i in range(len(PROMPTS))]
    seen = profiled(lambda: engine.sample(PROMPTS, streams, max_new_tokens=24, temperature=1.0))
    counted = sum((of_drawn(len(prompt), [24] * 3) for prompt in PROMPTS), NOTHING)
    assert operations(counted, MODELS["student"]) == pytest.approx(seen, rel=CLOSE)


@pytest.mark.parametrize("threshold", [1000.0, 0.02], ids=["checking", "checking and continuing"])
def test_rollouts_run_what_is_counted(threshold: float) -> None:
    engine = TransformersEngine(STUDENT, TEACHER, VOCABULARY, 4096)
    settings = RolloutsSection(num_samples=3, max_new_tokens=24, margin_threshold=threshold)
    prompts = [
        Prompt(prompt_id=str(i), prompt_ids=ids, text="", reference=None, answer=None)
        for i, ids in enumerate(PROMPTS)
    ]
    found: list[Any] = []
    seen = profiled(lambda: found.extend(roll_out(engine, prompts, settings, seed=0)))
    lengths = {prompt.prompt_id: len(prompt.prompt_ids) for prompt in prompts}
    entries = costs(of_rollouts(lengths, found, frozenset()), MODELS)
    continued = [one for one in found if one.continuation_ids]
    assert bool(continued) == (threshold < 1000)
    assert [(one.model, one.work) for one in entries][:2] == [
        ("student", "sample"), ("teacher", "score"),
    ]  # fmt: skip
    assert len(entries) == (4 if continued else 2)
    assert total(entries) == pytest.approx(seen, rel=CLOSE)


def arguments(folder: Path, **named: Any) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder), max_steps=2, per_device_train_batch_size=3, use_cpu=True,
        gradient_accumulation_steps=2, report_to="none", save_strategy="no",
        remove_unused_columns=False, disable_tqdm=True, logging_strategy="no", **named,
    )  # fmt: skip


def trained(trainer: Any, adapters: int = 0) -> tuple[int, int]:
    """Operations of two steps as the profiler sees them, and as they are counted."""
    seen = profiled(trainer.train)
    return seen, total(training_costs(trainer.ran, MODELS, adapters))


PAIRS = [
    {"prompt_ids": PROMPTS[i // 2], "chosen_ids": list(range(50 + i, 74 + i)),
     "rejected_ids": [*range(50 + i, 54 + i), *range(100, 118)], "mismatch_index": 4,
     "chosen_ref_logprob": -9.0, "rejected_ref_logprob": -9.0}
    for i in range(12)
]  # fmt: skip
ROWS = [
    {"prompt_ids": p, "completion_ids": list(range(90, 115 - i))} for i, p in enumerate(PROMPTS)
]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("logits_at_once", [2**23, 300 * 16], ids=["whole logits", "in blocks"])
def test_warm_up_steps_run_what_is_counted(
    checkpointing: bool, logits_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "LOGITS_AT_ONCE", logits_at_once)
    trainer = WarmupTrainer(
        model=llama(2, seed=1), vocabulary=VOCABULARY, train_dataset=Dataset.from_list(PAIRS),
        starts_as_reference=False, args=arguments(tmp_path, activation_checkpointing=checkpointing),
    )  # fmt: skip
    seen, counted = trained(trainer)
    assert counted == pytest.approx(seen, rel=CLOSE)


def test_distillation_steps_with_a_teacher_run_what_is_counted(tmp_path: Path) -> None:
    trainer = DistillTrainer(
        model=llama(2, seed=1), teacher=TEACHER, vocabulary=VOCABULARY,
        train_dataset=Dataset.from_list(ROWS), args=arguments(tmp_path),
    )  # fmt: skip
    seen, counted = trained(trainer)
    assert counted == pytest.approx(seen, rel=CLOSE)
    # two steps of two passes of three rows are all six rows twice
    once = sum((of_row(len(r["prompt_ids"]), len(r["completion_ids"])) for r in ROWS), NOTHING)
    assert trainer.ran.trained == trainer.ran.taught == once + once


def test_distillation_steps_on_the_student_s_own_completions_run_what_is_counted(
    tmp_path: Path,
) -> None:
    trainer = DistillTrainer(
        model=llama(2, seed=1), teacher=TEACHER, vocabulary=VOCABULARY,
        train_dataset=Dataset.from_list(ROWS), args=arguments(tmp_path),
        student_share=StudentShare(share=1.0, max_new_tokens=16),
    )  # fmt: skip
    seen, counted = trained(trainer)
    assert counted == pytest.approx(seen, rel=CLOSE)
    assert trainer.ran.drawn.predictions == 12 * 16


@pytest.mark.parametrize("checkpointing", [False, True])
def test_steps_with_adapters_run_what_is_counted(checkpointing: bool, tmp_path: Path) -> None:
    trainer = WarmupTrainer(
        model=llama(6, seed=1), vocabulary=VOCABULARY, train_dataset=Dataset.from_list(PAIRS),
        starts_as_reference=False, args=arguments(tmp_path, activation_checkpointing=checkpointing),
        peft_config=LoraConfig(r=8, target_modules="all-linear"),
    )  # fmt: skip
    adapters = trainer.model.num_parameters(only_trainable=True)
    models: Any = MODELS | {"student": sizes_of(llama(6, seed=1).config)}
    seen = profiled(trainer.train)
    assert total(training_costs(trainer.ran, models, adapters)) == pytest.approx(seen, rel=CLOSE)


def test_a_model_that_shares_nothing_runs_every_prompt_anew() -> None:
    # two completions of 4 tokens behind 10: 10 + 3 tokens each
    assert of_drawn(10, [4, 4], apart=True).tokens == 26
    assert of_drawn(10, [4, 4]).tokens == 16
    assert of_drawn(10, [4, 4], apart=True).predictions == 8
    nothing: Passes = {}
    assert costs(nothing, MODELS) == []
