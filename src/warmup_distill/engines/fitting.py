"""How many tokens fit into memory: counted from the sizes of models, before they are loaded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel

from warmup_distill.cluster.places import NOBODY, Meter, Place
from warmup_distill.engines.batching import Chosen
from warmup_distill.errors import ModelError
from warmup_distill.foreign.reading import reading
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.loading import causal_config, dtype_named, locate
from warmup_distill.models.memory import Memory, memory_of
from warmup_distill.models.quantizing import quantization_of
from warmup_distill.models.sizes import Sizes, sizes_of
from warmup_distill.recipe import TrainSection
from warmup_distill.recipe.section import TokenCount
from warmup_distill.tree.packed import LOGITS_AT_ONCE

SHARE = 0.8
"""Of the free memory; the rest is for what is not counted here, and for holes."""
LIVE_LOGITS = 8
"""Tensors of logits that a draw, or a divergence and its gradient, holds at one time."""
MOST_ON_CPU = 65_536
"""Tokens, measured (docs/performance.md): from some 16,000 on more of them make nothing faster on a
CPU, and four times as many are enough for longer texts too."""
MOST_IN_A_PASS = 16_384
"""Tokens of a forward pass over whole texts: with fewer the matrix products are full already."""
MOMENTS = 2
"""Numbers that AdamW keeps per weight."""
LEAST = 1024
"""Tokens that are tried where not even these seem to fit."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes that a model takes on the fullest of its devices."""

    weights: int
    kept: int
    """Of each token: keys, values and hidden states."""
    passing: int
    """Of each token while a layer works on it."""
    logits: int
    """Of one token's logits in float32."""

    @classmethod
    def of(cls, sizes: Sizes, bytes_each: int, weights: int) -> "Needs":
        """Of a model with so many bytes a number, and in all its weights."""
        return cls(
            weights=weights,
            kept=bytes_each * (sizes.cache_numbers + sizes.width),
            passing=bytes_each * sizes.passing,
            logits=4 * sizes.head_rows,
        )


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Completions to draw and check, by their lengths in tokens."""

    prompt: int
    """The longest one."""
    completion: int
    samples: int = 1
    """Completions of a prompt."""

    @classmethod
    def of(cls, prompts: Iterable[Sequence[int]], completion: int, samples: int = 1) -> "Texts":
        return cls(prompt=max(map(len, prompts)), completion=completion, samples=samples)

    @property
    def share_of_prompts(self) -> float:
        """Of all tokens, at the most: those that go through a model together, before the others."""
        return self.prompt / (self.prompt + self.samples * self.completion)


def choose(asked: TokenCount, place: Place, models: Iterable[ModelRef], texts: Texts) -> Chosen:
    """The tokens that are asked for, or as many as fit into the memory of a process of the place.

    Args:
        models: that are in memory together.
        texts: at the longest.
    """
    if asked != "auto":
        return Chosen(tokens=asked, asked=asked)
    ((_, memory),) = place.compute(_Looking(), [None], NOBODY)
    needs = [needs_of(ref, memory.devices) for ref in models]
    return fitting(memory, needs, texts)


def choose_for(models: Sequence[PreTrainedModel], asked: TokenCount, texts: Texts) -> Chosen:
    """The same for models that are in the memory of this process."""
    if asked != "auto":
        return Chosen(tokens=asked, asked=asked)
    needs = [Needs.of(sizes_of(one.config), one.dtype.itemsize, weights=0) for one in models]
    return fitting(memory_of(Held()), needs, texts)


def choose_row(
    section: TrainSection,
    place: Place,
    student: ModelRef,
    others: Sequence[ModelRef],
    sharded_over: int,
) -> Chosen:
    """The tokens of a training's forward pass that are asked for, or as many as fit.

    Args:
        student: that is trained.
        others: that are in memory besides.
        sharded_over: see `trained_bytes`.
    """
    if section.row_tokens != "auto":
        return Chosen(tokens=section.row_tokens, asked=section.row_tokens)
    ((_, memory),) = place.compute(_Looking(), [None], NOBODY)
    sizes = sizes_named(student.name)
    weights = trained_bytes(sizes, section, sharded_over)
    weights += sum(needs_of(ref, memory.devices).weights for ref in others)
    each = 4 * sizes.kept_for_gradients(section.activation_checkpointing)
    chosen = fitted(memory, weights + LIVE_LOGITS * 4 * LOGITS_AT_ONCE, each)
    return replace(chosen, tokens=min(chosen.tokens, MOST_IN_A_PASS))


def trained_bytes(sizes: Sizes, section: TrainSection, sharded_over: int) -> int:
    """What the weights that are trained, their gradients and moments take in one process.

    Where they are sharded, the embedding and two layers, one that runs and one that comes next,
    are whole for the time being.

    Args:
        sharded_over: processes that hold a share each of them.
    """
    whole = 4 * sizes.parameters * (1 if section.lora else 2 + MOMENTS)
    if sharded_over == 1:
        return whole
    embedding = sizes.head_rows * sizes.width
    layer = (sizes.multiplied - embedding) // sizes.layers
    return whole // sharded_over + 4 * (embedding + 2 * layer)


def needs_of(ref: ModelRef, devices: int) -> Needs:
    """What a model takes; one that spans all devices has an equal part of it on each."""
    sizes, each = sizes_named(ref.name), dtype_named(ref.dtype).itemsize
    quantized = quantization_of(causal_config(ref.name))
    weights = stored_bytes(ref.name) if quantized else each * sizes.parameters
    return Needs.of(sizes, each, weights // (devices if ref.device_map else 1))


def sizes_named(name: str) -> Sizes:
    """The sizes of a causal language model by its name.

    Raises:
        ModelError: there is none, or they cannot be told.
    """
    config = causal_config(name)
    with reading(ModelError, f"the size of {name} cannot be told"):
        return sizes_of(config)


def stored_bytes(name: str) -> int:
    """Bytes of a model's weights as they are on the disk; 0 if they are not on this one."""
    return sum(path.stat().st_size for path in Path(locate(name)).glob("*.safetensors"))


def fitting(memory: Memory, needs: Sequence[Needs], texts: Texts) -> Chosen:
    """As many tokens as fit, but for what makes nothing faster; with the facts behind it.

    Prompts go through a layer together, completions a token or a few at a time, each with the
    logits of one token. What is only compared goes in passes of a bounded size.
    """
    passing, logits = max(one.passing for one in needs), max(one.logits for one in needs)
    each = sum(one.kept for one in needs) + round(texts.share_of_prompts * passing)
    each += LIVE_LOGITS * logits // texts.completion
    fixed = sum(one.weights for one in needs) + MOST_IN_A_PASS * passing
    fixed += LIVE_LOGITS * 4 * LOGITS_AT_ONCE
    chosen = fitted(memory, fixed, each)
    return replace(chosen, tokens=min(chosen.tokens, MOST_ON_CPU)) if memory.is_host else chosen


def fitted(memory: Memory, fixed: int, each: int) -> Chosen:
    """As many tokens of so many bytes each as fit beside what is there anyhow."""
    fit = round_down(max(LEAST, int(SHARE * memory.free - fixed) // each))
    return Chosen(
        tokens=fit,
        asked="auto",
        computed_from={
            "device": memory.device,
            "free_bytes": memory.free,
            "fixed_bytes": fixed,
            "bytes_per_token": each,
            "tokens_that_fit": fit,
        },
    )


def round_down(tokens: int) -> int:
    """To one or one and a half times a power of two, so that a little more memory changes nothing.

    Example:
        >>> round_down(1000), round_down(700), round_down(512)
        (768, 512, 512)
    """
    step = 1 << max(0, tokens.bit_length() - 2)
    return tokens // step * step


@dataclass(frozen=True)
class _Looking:
    """A task: the memory of the process that computes it."""

    def __call__(self, item: None, held: Held, meter: Meter) -> Memory:
        return memory_of(held)
