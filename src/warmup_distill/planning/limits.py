"""What one of each costs by the limits of a device.

Letters in the formulas: W weights that a token is multiplied with, L layers, H width of attention,
n tokens that a token attends to, B rows of a batch, b bytes of a number, C keys and values of a
token. Of a mixture of experts W is what a token takes; a step reads all of them.
"""

import math
from dataclasses import dataclass

from warmup_distill.planning.costs import Costs, Lengths
from warmup_distill.planning.devices import Device
from warmup_distill.planning.estimates import bytes_each, tokens_at_once
from warmup_distill.planning.facts import Facts, ModelFacts
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.training import TrainSection


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How much of a device's limits the work gets out of it.

    Assumed, not measured. Others report 0.33 to 0.60 of the operations in fine-tuning on an H100
    (torchtitan, NeMo AutoModel, LLMQ), and 0.17 of the bandwidth limit in a server of 2024 (vLLM).
    """

    sampling: float = 0.5
    """Of the bandwidth of the memory."""
    checking: float = 0.6
    """Of the operations per second, forward alone."""
    training: float = 0.4
    """Of the operations per second, forward and backward."""
    exchanging: float = 0.7
    """Of the bandwidth of a link."""


ASSUMED = Shares()
ALL = Shares(sampling=1, checking=1, training=1, exchanging=1)
"""The limits themselves."""


def forward(model: ModelFacts, tokens: float, seen: float) -> float:
    """Operations of a forward pass: tokens · (2 W + 4 L H n).

    A weight is a multiplication and an addition; attention multiplies each query with n keys and
    its weights with n values.
    """
    weights = model.body + model.head
    return tokens * (2 * weights + 4 * model.layers * model.attention_width * seen)


def step_seconds(
    model: ModelFacts, rows: float, seen: float, size: int, device: Device, shares: Shares
) -> float:
    """Seconds in which each row of a batch gets one token: (b W + B n b C) / bandwidth.

    Every step reads all weights, and the keys and values of every row; the operations, B forward
    passes of one token, take longer only in batches of many hundred rows, and then they count.

    Args:
        size: b, bytes of a number.
    """
    read = size * (model.multiplied + rows * seen * model.cache_numbers)
    reading = read / (device.bandwidth * shares.sampling)
    return max(reading, forward(model, rows, seen) / (device.flops * shares.checking))


def passes(section: TrainSection) -> int:
    """Forward passes' worth of operations that training on a token takes.

    One forward, two backward (of which adapters save the weights' own), and one more forward where
    activations are computed again.
    """
    return (2 if section.lora else 3) + section.activation_checkpointing


def seconds(
    recipe: Recipe, facts: Facts, lengths: Lengths, device: Device, shares: Shares
) -> Costs:
    """Seconds of one of each: sampling by the bandwidth, checking and training by operations."""
    assert facts.teacher and facts.student
    counted = operations(recipe, facts, lengths)
    checking = device.flops * shares.checking
    training = device.flops * shares.training
    shared = forward(facts.student, lengths.prompt / lengths.samples, lengths.prompt / 2) / checking
    own = forward(facts.teacher, lengths.prompt, lengths.prompt / 2) / checking
    drawn, continued = lengths.completion, lengths.continuation

    teacher_bytes, student_bytes = bytes_each(recipe)

    def sampled(model: ModelFacts, size: int, tokens: float) -> float:
        at_once = rows_at_once(recipe, facts, lengths)
        seen = lengths.prompt + tokens / 2
        return tokens * step_seconds(model, at_once, seen, size, device, shares) / at_once

    student_reads = forward(facts.student, continued, lengths.prompt + continued / 2)
    return Costs(
        drawing=shared + sampled(facts.student, student_bytes, drawn),
        checking=counted.checking / checking,
        continuing=sampled(facts.teacher, teacher_bytes, continued) + student_reads / checking,
        teaching=own + sampled(facts.teacher, teacher_bytes, drawn),
        pair=counted.pair / training,
        row=counted.row / training,
        pairs_per_prompt=lengths.pairs_per_prompt,
    )


def operations(recipe: Recipe, facts: Facts, lengths: Lengths) -> Costs:
    """Floating-point operations of one of each."""
    assert facts.teacher and facts.student
    teacher, student, prompt = facts.teacher, facts.student, lengths.prompt
    warmup, distill = recipe.warmup, recipe.distill

    def new(model: ModelFacts, tokens: float) -> float:
        return forward(model, tokens, prompt + tokens / 2)

    def read(model: ModelFacts, share: float) -> float:
        return forward(model, prompt / share, prompt / 2)

    taught = 0.0 if distill.objective == "sft" else forward(teacher, lengths.row, lengths.row / 2)
    learned = forward(student, lengths.row, lengths.row / 2)
    return Costs(
        drawing=read(student, lengths.samples) + new(student, lengths.completion),
        checking=read(teacher, lengths.samples) + new(teacher, lengths.completion),
        continuing=new(teacher, lengths.continuation) + new(student, lengths.continuation),
        teaching=read(teacher, 1) + new(teacher, lengths.completion),
        pair=passes(warmup) * forward(student, lengths.pair, lengths.pair / 2),
        row=passes(distill) * learned + taught,
        pairs_per_prompt=lengths.pairs_per_prompt,
    )


def tokens(lengths: Lengths) -> Costs:
    """Tokens of one of each: new ones where it draws, read ones where it checks or trains."""
    return Costs(
        drawing=lengths.completion,
        checking=lengths.completion,
        continuing=lengths.continuation,
        teaching=lengths.completion,
        pair=lengths.pair,
        row=lengths.row,
        pairs_per_prompt=lengths.pairs_per_prompt,
    )


def rows_at_once(recipe: Recipe, facts: Facts, lengths: Lengths) -> float:
    """Rows that are drawn together in the rollouts, in the mean over the batches of a part.

    A batch keeps room for every row to become as long as it may, and a part may be too small to
    fill one.
    """
    settings = recipe.rollouts
    room = lengths.prompt + settings.num_samples * settings.max_new_tokens
    prompts = max(
        1, tokens_at_once(settings.batch_tokens, recipe, facts) // room
    )  # whose samples all are in one batch
    batches = math.ceil(settings.prompts_per_part / prompts)
    return settings.num_samples * settings.prompts_per_part / batches
