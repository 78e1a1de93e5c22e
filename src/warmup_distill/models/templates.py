"""Chat templates, rendered the same way on every day.

A template may ask for today's date (`strftime_now`). Here it is told one fixed date, so that a
recipe gives the same prompts tomorrow; it is the one that Llama 3's templates fall back to. A
template that takes the date as an argument is given another by `prompts.chat_template_kwargs`.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from transformers import PreTrainedTokenizerBase

from warmup_distill.errors import ModelError, RecipeError
from warmup_distill.foreign.reading import reading

Turns = Sequence[Mapping[str, str]]

TODAY = datetime(2024, 7, 26)

_OURS = {"messages", *inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters}
"""What a rendering is told anyway, and nobody else may say."""


def require_free_names(settings: Mapping[str, Any]) -> None:
    """Raise a RecipeError if template arguments have names that a rendering needs itself."""
    for name in settings:
        if name in _OURS:
            raise RecipeError(
                f"prompts.chat_template_kwargs.{name}: this name is not a template's to take; "
                "expected names that the chat template reads, such as enable_thinking."
            )


def render_text(tokenizer: Any, turns: Turns, settings: Mapping[str, Any], *, opened: bool) -> str:
    """A conversation as text.

    Args:
        settings: what the template takes besides the turns.
        opened: write the beginning of the assistant's next turn too.

    Raises:
        ModelError: the template fails.
    """
    return str(_render(tokenizer, turns, settings, opened, tokenize=False))


def render_ids(
    tokenizer: Any, turns: Turns, settings: Mapping[str, Any], *, opened: bool
) -> list[int]:
    """A conversation as token ids; as `render_text`.

    Control tokens that stand in a turn stay text: `<|im_end|>` typed by a user does not end it.
    """
    sanitized = {"return_dict": True, "sanitize_control_tokens": True}
    rendered = _render(tokenizer, turns, settings, opened, tokenize=True, **sanitized)
    return list(rendered["input_ids"])


def encode_as_text(tokenizer: Any, text: str, control: Iterable[str]) -> list[int]:
    """Ids of a text in which the special tokens and those of these names stay text."""
    named = "".join(f"{{% raw %}}{name}{{% endraw %}}" for name in control)
    template = f"{{{{ messages[0]['content'] }}}}{{% if false %}}{named}{{% endif %}}"
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        chat_template=template,
        return_dict=True,
        sanitize_control_tokens=True,
    )
    return list(encoded["input_ids"])


def _render(
    tokenizer: Any, turns: Turns, settings: Mapping[str, Any], opened: bool, **how: Any
) -> Any:
    with reading(ModelError, "the tokenizer's chat template fails on a prompt"):
        template = pinned(tokenizer.get_chat_template())
        return tokenizer.apply_chat_template(
            list(turns), chat_template=template, add_generation_prompt=opened, **how, **settings
        )


def pinned(template: str) -> str:
    """The template with one fixed date in place of the clock.

    A macro takes the place of the function, which no argument can do.
    """
    if "strftime_now" not in template:
        return template
    told = {f"%{letter}": TODAY.strftime(f"%{letter}") for letter in "aAbBdHIjmMpSyY"}
    told |= {"%-d": str(TODAY.day), "%e": str(TODAY.day), "%-m": str(TODAY.month)}
    replaced = "".join(f"|replace('{asked}', '{answer}')" for asked, answer in told.items())
    macro = f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}"
    return f"{macro}{{{{ '' }}}}{template}"  # else a newline after the macro would be dropped
