"""Text for programs that tokenize it again: what they add by themselves is left out of it."""

from collections.abc import Sequence
from typing import Any

from warmup_distill.models.chat import decode_completion, decode_prompt
from warmup_distill.models.renderer import beginning
from warmup_distill.records import Pair


def texts_to_encode(tokenizer: Any, pair: Pair) -> dict[str, str]:
    """A pair's texts, as TRL and others like it read them."""
    return {
        "prompt": prompt_text(tokenizer, pair.prompt_ids),
        "chosen": completion_text(tokenizer, pair.chosen_ids),
        "rejected": completion_text(tokenizer, pair.rejected_ids),
    }


def prompt_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """A prompt without the beginning-of-sequence that the tokenizer puts before every text."""
    before = beginning(tokenizer)
    begins = list(ids[: len(before)]) == before
    return decode_prompt(tokenizer, ids[len(before) :] if begins else ids)


def completion_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """A completion without its end-of-sequence, which is put behind it again.

    The token that ends a turn stays where it is another one than the tokenizer's `eos_token`.
    """
    text, last = decode_completion(tokenizer, ids), ids[-1]
    if last == tokenizer.eos_token_id or last not in _special_ids(tokenizer):
        return text
    return text + decode_prompt(tokenizer, [last])


def holds_control(tokenizer: Any, text: str) -> bool:
    """Whether a person or a model wrote a control token as text, which no text can say."""
    found = set(tokenizer(text, add_special_tokens=False)["input_ids"]) & _special_ids(tokenizer)
    return any(tokenizer.convert_ids_to_tokens(id_) in text for id_ in found)


def _special_ids(tokenizer: Any) -> set[int]:
    """Not `all_special_ids` alone, which knows of those with a role of their own."""
    added = tokenizer.added_tokens_decoder.items()
    return {id_ for id_, token in added if token.special} | set(tokenizer.all_special_ids)
