"""What one of each costs by a device's limits: the paper's models and round numbers, by hand."""

import typing
from dataclasses import replace
from math import isclose
from pathlib import Path

import pytest
from paper import STUDENT, TEACHER
from test_run import small_recipe
from transformers import Qwen2Config

from warmup_distill.planning.costs import Lengths
from warmup_distill.planning.devices import DEVICES, Device, is_called
from warmup_distill.planning.estimates import bytes_each, tokens_at_once
from warmup_distill.planning.facts import DataFacts, Facts, model_facts
from warmup_distill.planning.limits import (
    ALL,
    Shares,
    forward,
    operations,
    passes,
    rows_at_once,
    seconds,
    step_seconds,
    tokens,
)
from warmup_distill.recipe.cluster import ClusterSection
from warmup_distill.recipe.training import LoraSection, WarmupSection
from warmup_distill.records import Prompt

H100 = DEVICES["h100"]


def test_the_papers_models_have_the_shapes_that_are_planned_with() -> None:
    # attention: queries and outputs, keys and values, three biases; three of the feed-forward
    # part; two norms
    products = 2 * 1536**2 + 2 * 1536 * 256 + 3 * 1536 * 8960
    layer = products + (1536 + 2 * 256) + 2 * 1536
    assert (STUDENT.body, STUDENT.head) == (28 * products, 151_936 * 1536)
    assert STUDENT.parameters == 151_936 * 1536 + 28 * layer + 1536
    products = 2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18944
    layer = products + (3584 + 2 * 512) + 2 * 3584
    assert (TEACHER.body, TEACHER.head) == (28 * products, 152_064 * 3584)
    assert TEACHER.multiplied == 152_064 * 3584 + 28 * layer + 3584
    assert TEACHER.parameters == TEACHER.multiplied + 152_064 * 3584  # its embedding


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_that_is_the_head_too_is_multiplied_with(tied: bool, tmp_path: Path) -> None:
    config = Qwen2Config(
        vocab_size=100, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    found = model_facts(str(tmp_path))
    layer = 2 * 8 * 8 + 2 * 8 * 4 + (8 + 2 * 4) + 3 * 8 * 12 + 2 * 8
    assert found.multiplied == 100 * 8 + 2 * layer + 8
    assert found.parameters == found.multiplied + (0 if tied else 100 * 8)


def test_a_step_of_sampling_reads_the_weights_and_what_every_row_attends_to() -> None:
    # 2 bytes of 1.5437e9 weights, and of 256 rows x 512 tokens x 14,336 numbers, at 3.35 TB/s
    step = step_seconds(STUDENT, 256, 512, 2, H100, ALL)
    assert isclose(step, (3.087_428_608e9 + 3.758_096_384e9) / 3.35e12)
    assert 125_000 < 256 / step < 126_000  # tokens per second
    step = step_seconds(TEACHER, 256, 512, 2, H100, ALL)
    assert isclose(step, (14.141_238_272e9 + 7.516_192_768e9) / 3.35e12)
    assert 39_000 < 256 / step < 40_000
    half = Shares(sampling=0.5, checking=1)
    assert isclose(step_seconds(TEACHER, 256, 512, 2, H100, half), 2 * step)


def test_a_step_of_very_many_rows_is_bound_by_operations() -> None:
    # 4,096 rows of 16 tokens: 1.3e13 operations take 13 ms, 5 GB to read take 1.5 ms
    step = step_seconds(STUDENT, 4096, 16, 2, H100, ALL)
    assert isclose(step, 4096 * (2 * 1_543_569_408 + 4 * 28 * 1536 * 16) / 989e12)


def test_a_forward_pass_of_the_teacher() -> None:
    # 1,000 tokens that see 500 on average: 14.14 T for the weights, 0.2 T for attention
    assert forward(TEACHER, 1000, 500) == 1000 * (2 * 7_070_285_824 + 4 * 28 * 3584 * 500)


def test_training_at_all_operations_is_what_others_come_near_to() -> None:
    # LLMQ reports 58,800 tokens/s for a 1.5B model on an H100 as 57 to 60% of the limit
    per_second = 989e12 / (3 * forward(STUDENT, 1, 0))
    assert 0.5 < 58_800 / per_second < 0.6


def test_passes_of_a_training() -> None:
    assert passes(WarmupSection()) == 3
    assert passes(WarmupSection(activation_checkpointing=True)) == 4
    assert passes(WarmupSection(lora=LoraSection())) == 2


def test_one_of_each_worked_by_hand() -> None:
    nothing = {"head": 0, "attention_width": 0}
    student = replace(STUDENT, multiplied=1000, body=1000, cache_numbers=10, **nothing)
    teacher = replace(TEACHER, multiplied=3000, body=3000, cache_numbers=20, **nothing)
    device = Device(flops=1e8, bandwidth=1e6, memory=1, link=1, marks=())
    lengths = Lengths(prompt=8, samples=4, completion=10, continuation=5, pair=30, row=20,
                      pairs_per_prompt=3)  # fmt: skip
    # a prompt of 8 tokens with 4 samples of up to 16 takes 72: three of them, or 12 rows, at once;
    # a part of 5 prompts makes two batches, of 10 rows in the mean
    rollouts = {"num_samples": 4, "max_new_tokens": 16, "batch_tokens": 220, "prompts_per_part": 5}
    recipe = small_recipe(dtype="bfloat16", rollouts=rollouts)
    facts = Facts(student=student, teacher=teacher)
    found = seconds(recipe, facts, lengths, device, ALL)
    student_step, teacher_step = 2 * (1000 + 10 * 13 * 10) / 1e6, 2 * (3000 + 10 * 13 * 20) / 1e6
    assert isclose(found.drawing, 2 * 2000 / 1e8 + 10 * student_step / 10)
    assert isclose(found.checking, (2 + 10) * 6000 / 1e8)
    shorter = 2 * (3000 + 10 * 10.5 * 20) / 1e6
    assert isclose(found.continuing, 5 * shorter / 10 + 5 * 2000 / 1e8)
    assert isclose(found.teaching, 8 * 6000 / 1e8 + 10 * teacher_step / 10)
    assert isclose(found.pair, 3 * 30 * 2000 / 1e8)
    assert isclose(found.row, (3 * 20 * 2000 + 20 * 6000) / 1e8)
    assert found.pairs_per_prompt == 3
    done = operations(recipe, facts, lengths)
    assert isclose(done.drawing, (2 + 10) * 2000)
    assert isclose(done.continuing, 5 * (6000 + 2000))
    read = tokens(lengths)
    assert (read.drawing, read.continuing, read.pair, read.row) == (10, 5, 30, 20)
    alone = operations(small_recipe(distill={"objective": "sft"}), facts, lengths)
    assert isclose(alone.row, 3 * 20 * 2000)  # without a teacher


@pytest.mark.parametrize(
    ("prompts_per_part", "rows"),
    [(128, 8 * 128 / 9), (15, 120), (4, 32), (1, 8)],  # 15 prompts fit: 90 + 8 x 512 tokens each
)
def test_a_small_part_does_not_fill_a_batch(prompts_per_part: int, rows: float) -> None:
    lengths = Lengths(prompt=90, samples=8, completion=512, continuation=512, pair=0, row=0,
                      pairs_per_prompt=8)  # fmt: skip
    rollouts = {"max_new_tokens": 512, "batch_tokens": 65_536, "prompts_per_part": prompts_per_part}
    facts = Facts(student=STUDENT, teacher=TEACHER)
    assert isclose(rows_at_once(small_recipe(rollouts=rollouts), facts, lengths), rows)
    rollouts["batch_tokens"] = 1  # a prompt larger than that is alone
    assert rows_at_once(small_recipe(rollouts=rollouts), facts, lengths) == 8


def test_auto_is_what_fits_into_the_device_that_is_named() -> None:
    cluster = {"num_workers": 2, "device": "h100"}
    rollouts = {"max_new_tokens": 512}
    recipe = small_recipe(cluster=cluster, dtype="bfloat16", rollouts=rollouts)
    prompt = Prompt(prompt_id="1", prompt_ids=[5] * 90, text="", reference=None, answer=None)
    data = DataFacts(origin="a file", prompts=[prompt], dropped=0)
    facts = Facts(student=STUDENT, teacher=TEACHER, data=data)
    # 0.8 of 80 GiB, less 18.3 GB of weights, 3.4 GB for a pass of 16,384 tokens through a layer of
    # the teacher (209 kB each) and 0.27 GB of logits: 46.7 GB. A token takes 64.5 and 31.7 kB of
    # keys, values and hidden states, 9.5 kB of logits, and as 90 of 90 + 8 x 512 are a prompt's,
    # 4.5 kB in a layer: 424,000 tokens, rounded down to one and a half times a power of two
    assert tokens_at_once("auto", recipe, facts) == 393_216
    assert tokens_at_once(100, recipe, facts) == 100
    smaller = small_recipe(cluster=cluster | {"device": "rtx4090"}, dtype="bfloat16",
                           rollouts=rollouts)  # fmt: skip
    # 0.8 of 24 GiB is less than as much: what is tried all the same
    assert tokens_at_once("auto", smaller, facts) == 1024


def test_a_teacher_may_have_another_dtype() -> None:
    recipe = small_recipe(dtype="float32", teacher_dtype="bfloat16")
    assert bytes_each(recipe) == (2, 4)
    assert bytes_each(small_recipe(dtype="bfloat16")) == (2, 2)


def test_the_recipe_names_the_devices_of_the_table() -> None:
    named = ClusterSection.model_fields["device"].annotation
    literal = next(one for one in typing.get_args(named) if typing.get_args(one))
    assert set(typing.get_args(literal)) == set(DEVICES)


@pytest.mark.parametrize(
    ("driver", "device"),
    [("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H100 PCIe", None), ("NVIDIA L40S", "l40s"),
     ("NVIDIA A100-SXM4-80GB", "a100-80gb"), ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
     ("NVIDIA H200", "h200"), ("NVIDIA B200", "b200"), ("NVIDIA L40", None), ("CPU", None),
     ("NVIDIA GeForce RTX 4090", "rtx4090")],
)  # fmt: skip
def test_a_device_is_known_by_its_drivers_name(driver: str, device: str | None) -> None:
    found = [name for name, one in DEVICES.items() if is_called(one, driver)]
    assert found == ([device] if device else [])
