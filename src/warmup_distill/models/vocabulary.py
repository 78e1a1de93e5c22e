"""The one vocabulary that teacher and student share.

Its size is the tokenizer's true size. Heads are often padded beyond it, each model differently
(Qwen2.5-7B to 152,064 rows, 1.5B to 151,936, of which 151,665 are real), so logits are cut to it
before every softmax.

Two models of a family may name special tokens differently that nobody uses: a reserved one that was
renamed, a padding token that was added (see `sharing`). No id is ever drawn whose meaning differs:
those above the last token that both share are cut off with the padding of the heads, and those
below it are banned. A ban is a logit of `NEVER` in every distribution, and of minus infinity
wherever a token is drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PretrainedConfig

from warmup_distill.errors import ModelError
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.sharing import shared_ids, tokens_of

NEVER = -1e4
"""The logit of a banned token: its probability is exactly 0 in float32, and 0 · (log p − log q) is
0 too, as it would not be with minus infinity."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The ids both models know, and the ones that end a completion."""

    size: int
    eos_ids: frozenset[int]
    pad_id: int
    """Fills batches; what counts is always decided by length, never by comparing with this id."""
    banned_ids: frozenset[int] = frozenset()
    """Below `size`: special tokens that are not the same for both models."""

    def ban(self, logits: Tensor, value: float = NEVER) -> Tensor:
        """Logits [..., size] with another value for the banned tokens, if there are any."""
        if not self.banned_ids:
            return logits
        return logits.index_fill(-1, _index(self.banned_ids, logits.device), value)


@cache
def _index(ids: frozenset[int], device: torch.device) -> Tensor:
    """Ids on a device, sent there but once: sending waits for the device."""
    with torch.inference_mode(False):  # it serves where there are gradients, too
        return torch.tensor(sorted(ids), device=device)


def shared_vocabulary(
    student: Renderer,
    teacher: Renderer,
    configs: Mapping[str, PretrainedConfig],
    generation_configs: Sequence[GenerationConfig | None],
) -> Vocabulary:
    """The tokens that are the same for two tokenizers, if those that can occur are.

    Args:
        student: the student's tokenizer, and how it is used.
        teacher: the teacher's.
        configs: model configurations by role, for the sizes of the heads.
        generation_configs: where models name their end-of-sequence ids, besides the tokenizer.

    Returns:
        A vocabulary in which a completion ends with what ends a turn in the chat templates, or
        with what the tokenizers or the generation configurations name.

    Raises:
        ModelError: a token that can occur differs (the first one is named), a head is too small,
            or there is no end-of-sequence token.
    """
    heads = {role: config.get_text_config().vocab_size for role, config in configs.items()}
    shared = shared_ids(student, teacher, heads)
    size = max(shared) + 1
    eos = shared.intersection([*_ends(student), *_ends(teacher)])
    for generation in generation_configs:
        named = generation.eos_token_id if generation else None
        eos |= shared.intersection(named if isinstance(named, list) else [named])
    if not eos:
        raise ModelError(
            "expected an end-of-sequence token, but neither chat template nor tokenizer nor "
            "generation configuration names one: set `eos_token` in tokenizer_config.json."
        )
    pad_id = student.tokenizer.pad_token_id
    known = tokens_of(student).keys() | tokens_of(teacher).keys()
    return Vocabulary(
        size=size,
        eos_ids=frozenset(eos),
        pad_id=pad_id if pad_id in shared else min(eos),
        banned_ids=frozenset(id_ for id_ in known - shared if id_ < size),
    )


def vocabulary_of(renderer: Renderer, models: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of models that share a tokenizer.

    Args:
        renderer: how texts are put to all of them.
        models: by role.

    Raises:
        ModelError: as `shared_vocabulary`.
    """
    configs = {role: model.config for role, model in models.items()}
    named = [getattr(model, "generation_config", None) for model in models.values()]
    return shared_vocabulary(renderer, renderer, configs, named)


def _ends(renderer: Renderer) -> Iterator[int | None]:
    """What ends a completion by the tokenizer, and a turn by its chat template if it has one."""
    yield renderer.tokenizer.eos_token_id
    yield renderer.ending.id
    if renderer.format == "text" and renderer.tokenizer.chat_template:
        yield Renderer(tokenizer=renderer.tokenizer).ending.id
