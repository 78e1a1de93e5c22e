"""The one vocabulary that teacher and student share.

Its size is the tokenizer's true size. Heads are often padded beyond it, each model differently
(Qwen2.5-7B to 152,064 rows, 1.5B to 151,936, of which 151,665 are real), so logits are cut to it
before every softmax.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig, PretrainedConfig

from warmup_distill.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The ids both models know, and the ones that end a completion."""

    size: int
    eos_ids: frozenset[int]
    pad_id: int
    """Fills batches; what counts is always decided by length, never by comparing with this id."""


def shared_vocabulary(
    student_tokenizer: Any,
    teacher_tokenizer: Any,
    configs: dict[str, PretrainedConfig],
    generation_configs: Sequence[GenerationConfig | None],
) -> Vocabulary:
    """Check that two tokenizers are one and both heads cover it.

    Args:
        student_tokenizer: the student's.
        teacher_tokenizer: the teacher's; must map the same tokens to the same ids.
        configs: model configurations by role, for the sizes of the heads.
        generation_configs: where models name their end-of-sequence ids, besides the tokenizer.

    Raises:
        ModelError: the tokenizers differ (the first differing entry is named), a head is too
            small, or there is no end-of-sequence token.
    """
    _require_same_tokens(student_tokenizer.get_vocab(), teacher_tokenizer.get_vocab())
    size = max(student_tokenizer.get_vocab().values()) + 1
    for role, config in configs.items():
        head = config.get_text_config().vocab_size
        if head < size:
            raise ModelError(
                f"the {role}'s head has {head} rows, but its tokenizer has ids up to {size - 1}. "
                "Resize the model's token embeddings to its tokenizer first."
            )
    eos_ids = {student_tokenizer.eos_token_id, teacher_tokenizer.eos_token_id}
    for generation in generation_configs:
        named = generation.eos_token_id if generation else None
        eos_ids.update(named if isinstance(named, list) else [named])
    eos = frozenset(id_ for id_ in eos_ids if id_ is not None and id_ < size)
    if not eos:
        raise ModelError(
            "expected an end-of-sequence token, but neither tokenizer nor generation "
            "configuration names one: set `eos_token` in the tokenizer's configuration."
        )
    pad_id = student_tokenizer.pad_token_id
    return Vocabulary(size=size, eos_ids=eos, pad_id=min(eos) if pad_id is None else pad_id)


def vocabulary_of(tokenizer: Any, models: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of models that share a tokenizer.

    Args:
        tokenizer: of all of them.
        models: by role.

    Raises:
        ModelError: as `shared_vocabulary`.
    """
    configs = {role: model.config for role, model in models.items()}
    named = [getattr(model, "generation_config", None) for model in models.values()]
    return shared_vocabulary(tokenizer, tokenizer, configs, named)


def _require_same_tokens(student: dict[str, int], teacher: dict[str, int]) -> None:
    if student == teacher:
        return
    token_of = [{id_: token for token, id_ in tokens.items()} for tokens in (student, teacher)]
    ids = sorted(token_of[0].keys() | token_of[1].keys())
    id_ = next(i for i in ids if token_of[0].get(i) != token_of[1].get(i))
    ours, theirs = (tokens.get(id_, "(nothing)") for tokens in token_of)
    raise ModelError(
        f"teacher and student need the same tokenizer, but id {id_} is {ours!r} for the student "
        f"({len(student)} tokens) and {theirs!r} for the teacher ({len(teacher)} tokens). "
        "Take two models of one family."
    )
