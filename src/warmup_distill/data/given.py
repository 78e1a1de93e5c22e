"""Prompts that a script gives as they are."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from warmup_distill.data.values import text_of
from warmup_distill.errors import DataError
from warmup_distill.foreign.showing import brief
from warmup_distill.models.renderer import Renderer
from warmup_distill.records import Prompt


def given_prompts(
    renderer: Renderer,
    prompts: Iterable[str],
    references: Iterable[Any] | None,
    answers: Iterable[Any] | None,
) -> list[Prompt]:
    """Prompts, ready for the models, from columns of texts.

    Raises:
        DataError: the columns hold something else, or are not of one length.
    """
    texts = _column("prompts", prompts)
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"prompts[{number}]: expected a text, got {brief(text)}")
    if not texts:
        raise DataError("prompts: expected texts, but there are none.")
    good = _beside(texts, "references", references)
    right = _beside(texts, "answers", answers)
    return [
        Prompt(
            prompt_id=f"prompt-{index:06d}",
            prompt_ids=renderer.prompt(str(text_of(text, f"prompts[{index}]", "prompts"))),
            text=text,
            reference=reference,
            answer=answer,
        )
        for index, (text, reference, answer) in enumerate(zip(texts, good, right, strict=True))
    ]


def _column(name: str, values: Any) -> list[Any]:
    """A column's values: of a list, a generator, a pandas Series, a column of a data set."""
    # A table goes through its columns' names, a set has no order, and a text has letters.
    unfit = isinstance(values, (str, bytes, Mapping, AbstractSet)) or hasattr(values, "columns")
    if unfit or not isinstance(values, Iterable):
        raise DataError(
            f"{name}: expected a list of texts such as ['What is 2 + 2?'], got "
            f"{type(values).__name__}."
        )
    return list(values)


def _beside(texts: list[str], name: str, values: Iterable[Any] | None) -> list[str | None]:
    """What goes with each prompt, as text."""
    if values is None:
        return [None] * len(texts)
    found = _column(name, values)
    if len(found) != len(texts):
        raise DataError(f"{name}: expected one for each of {len(texts)} prompts, got {len(found)}.")
    return [text_of(value, f"{name}[{i}]", name) for i, value in enumerate(found)]
