"""What stands in a row's columns, as text: numbers, nulls, and what is none of these."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from warmup_distill.errors import DataError
from warmup_distill.foreign.showing import brief, listed
from warmup_distill.recipe import Source

CONTEXT = frozenset(
    {"input", "inputs", "context", "passage", "article", "document", "instruction", "choices",
     "options", "history", "system", "system_prompt"}
)  # fmt: skip
"""Names of columns, in lower case, that are a part of the prompt wherever they are used."""


def text_of(value: Any, where: str, column: str) -> str | None:
    """A value as text; None where there is nothing: null, NaN, or nothing but white space.

    NaN is what many programs write where a column has a gap. A whole number has no decimal point,
    whatever its type: in many programs a column of numbers with gaps is one of decimal numbers.

    Raises:
        DataError: it is neither text nor a number, or text that no file can hold.
    """
    if isinstance(value, np.generic):
        # By the digits of its own dtype: a short float is not the long one nearest to it.
        value = Decimal(str(value)) if isinstance(value, np.floating) else value.item()
    if value is None or (isinstance(value, float | Decimal) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return _encodable(value, where, column) if value.strip() else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise DataError(
            f"{where}: expected text in column `{column}`, or a number, got {brief(value)}"
        )
    if not math.isfinite(value):
        raise DataError(
            f"{where}: expected text in column `{column}`, or a finite number, got {value}. Write "
            "null where there is nothing."
        )
    return _digits(value)


def _digits(number: float | Decimal) -> str:
    """A number in digits, without an exponent and without zeros that say nothing."""
    # By the digits that a float is written with, not by those of the binary number.
    exact = f"{Decimal(repr(number) if isinstance(number, float) else number):f}"
    written = exact.rstrip("0").rstrip(".") if "." in exact else exact
    return "0" if written == "-0" else written


def column_text(values: Mapping[str, Any], column: str | None, where: str) -> str | None:
    """A column of a row as text.

    Raises:
        DataError: there is no such column, or no text in it.
    """
    if column is None:
        return None
    if column not in values:
        raise DataError(
            f"{where}: expected a column `{column}`, but the columns are "
            f"{listed(values)}. Name the right one in the recipe."
        )
    return text_of(values[column], where, column)


def require_nothing_lost(values: Mapping[str, Any], text: str, where: str, source: Source) -> None:
    """Raise a DataError if a part of the prompt stands in a column that the recipe does not name.

    Args:
        text: the prompt, which may repeat that column.
    """
    named = {source.prompt_column, source.input_column, source.reference_column,
             source.answer_column, *source.ignore_columns}  # fmt: skip
    for column, value in values.items():
        if column in named or str(column).strip().lower() not in CONTEXT or _is_nothing(value):
            continue
        if isinstance(value, str) and _stands_in(value.strip(), text):
            continue
        system = " (or, if it is the same in every row, give it as prompts.system)"
        raise DataError(
            f"{where}: the column `{column}` looks like a part of the prompt, and no model would "
            f"read it: {brief(value)}. Name it in input_column, or in ignore_columns to leave it "
            f"out"
            f"{system if str(column).lower().startswith('system') else ''}."
        )


def _stands_in(part: str, text: str) -> bool:
    """Whether a text has a part that does not begin or end within a word of it."""
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) is not None


def _is_nothing(value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return isinstance(value, float) and math.isnan(value)
    return not value or (isinstance(value, str) and not value.strip())


def _encodable(text: str, where: str, column: str) -> str:
    """JSON can name halves of characters, which no tokenizer and no file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: the text in column `{column}` is not valid Unicode (a lone surrogate at "
            f"character {error.start}). Mend the row, or leave it out."
        ) from error
    return text
