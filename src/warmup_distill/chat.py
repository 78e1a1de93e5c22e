"""From what a person asks to token ids, and from completion ids to what a person reads."""

from collections.abc import Sequence
from typing import Any, Literal

from warmup_distill.errors import ModelError
from warmup_distill.limits import limited

Format = Literal["chat", "text"]


def encode_prompt(tokenizer: Any, text: str, format: Format) -> list[int]:
    """Ids of a prompt: a user's turn with the assistant's opened, or the text as it is.

    In a chat, control tokens that stand in the user's text stay text: `<|im_end|>` typed by a
    user does not end their turn.
    """
    if format == "text":
        return list(tokenizer(text)["input_ids"])
    try:
        encoded = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            sanitize_control_tokens=True,
        )
    except Exception as error:  # a template is a program: it can raise anything
        why = str(error) or type(error).__name__
        raise ModelError(f"the tokenizer's chat template fails on a prompt: {why}") from error
    return list(encoded["input_ids"])


def encode_reference(tokenizer: Any, text: str) -> list[int]:
    """Ids of a reference as a completion: its tokens, then end-of-sequence."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id]


def decode_completion(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of a completion without special tokens. For people: never encode it again."""
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def decode_prompt(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of a prompt with its template's special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def require_same_rendering(student_tokenizer: Any, teacher_tokenizer: Any, format: Format) -> None:
    """Both models must read a prompt as the same ids; their templates' first run is a limited one.

    Raises:
        ModelError: a chat template is missing, takes too much time or memory, or the two render a
            probe differently.
    """
    if format == "chat":
        for role, tokenizer in (("student", student_tokenizer), ("teacher", teacher_tokenizer)):
            if not tokenizer.chat_template:
                raise ModelError(
                    f"prompts.format is chat, but the {role}'s tokenizer has no chat template. "
                    "Set prompts.format to text, or give the tokenizer a template."
                )
    probe = "How many apples are 3 boxes of 12?"
    with limited():
        student, teacher = (
            encode_prompt(tokenizer, probe, format)
            for tokenizer in (student_tokenizer, teacher_tokenizer)
        )
    if student != teacher:
        raise ModelError(
            f"teacher and student render the same prompt differently: the student reads "
            f"{decode_prompt(student_tokenizer, student)!r}, the teacher "
            f"{decode_prompt(teacher_tokenizer, teacher)!r}. Give both the same chat template."
        )
