"""From what a person asks to token ids, and from completion ids to what a person reads."""

from collections.abc import Sequence
from typing import Any, Literal

from warmup_distill.errors import ModelError
from warmup_distill.models.limits import limited

Format = Literal["chat", "text"]

PROBE = "How many apples are 3 boxes of 12?"
LONGEST = 100_000
"""Characters that a template may make of the probe."""


def try_template(tokenizer: Any) -> None:
    """Render a probe by a chat template that came with a model, with limits.

    Whatever else is wrong with it is said when it is used.

    Raises:
        ModelError: it takes too much time or memory, or makes too much of little.
    """
    if not tokenizer.chat_template:
        return
    turns, why = [{"role": "user", "content": PROBE}], None
    try:
        with limited():
            text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except (TimeoutError, MemoryError) as error:
        why = str(error) or "it takes too much memory"
    except Exception:  # a template is a program: it can raise anything
        return
    else:
        why = f"it makes {len(text)} characters of {len(PROBE)}" if len(text) > LONGEST else None
    if why:
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path} is not safe to use: {why}. Look at it, "
            "and give the tokenizer another one."
        )


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
    """Both models must read a prompt as the same ids.

    Raises:
        ModelError: a chat template is missing or the two render a probe differently.
    """
    if format == "chat":
        for role, tokenizer in (("student", student_tokenizer), ("teacher", teacher_tokenizer)):
            if not tokenizer.chat_template:
                raise ModelError(
                    f"prompts.format is chat, but the {role}'s tokenizer has no chat template. "
                    "Set prompts.format to text, or give the tokenizer a template."
                )
    student, teacher = (
        encode_prompt(tokenizer, PROBE, format)
        for tokenizer in (student_tokenizer, teacher_tokenizer)
    )
    if student != teacher:
        raise ModelError(
            f"teacher and student render the same prompt differently: the student reads "
            f"{decode_prompt(student_tokenizer, student)!r}, the teacher "
            f"{decode_prompt(teacher_tokenizer, teacher)!r}. Give both the same chat template."
        )
