"""What a section of the recipe is, and how large its values may be."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, field_validator

from warmup_distill.foreign.showing import brief

LARGEST = 2**31 - 1
"""Of a whole number: what tensors, files and libraries count with."""
LARGEST_DECIMAL, SMALLEST_DECIMAL = 1e12, 1e-12
"""Of a decimal number but 0, whose product with a logit is then still a number in float32."""
LONGEST_TEXT = 100_000
"""Characters."""
LONGEST_STEP = 255
"""Bytes between two slashes of a path; file systems hold no more."""


def unit(name: str) -> dict[str, Any]:
    """The unit of a number, shown beside its range in docs/recipe.md."""
    return {"unit": name}


def _fits_a_file_system(path: Any) -> Any:
    longest = max(len(step.encode("utf-8", "replace")) for step in str(path).split("/"))
    if longest > LONGEST_STEP or len(str(path)) > 16 * LONGEST_STEP:
        raise ValueError(f"expected a name that a file system holds, got {brief(str(path))}")
    return path


def _is_token_count(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not whole and value != "auto":
        raise ValueError(f"expected a whole number from 1 on, or auto, got {brief(value)}")
    return value


TokenCount = Annotated[int | Literal["auto"], BeforeValidator(_is_token_count)]
"""Tokens, or as many as fit into memory."""
OnDisk = AfterValidator(_fits_a_file_system)
"""Marks a field that names a file or a folder."""
ModelName = Annotated[str, OnDisk]


class Section(BaseModel):
    """A part of the recipe: unknown keys, NaN and infinity are errors, and nothing changes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*")
    @classmethod
    def _within_reason(cls, value: Any) -> Any:
        return _within_reason(value)


def _within_reason(value: Any) -> Any:
    """The value, unless it is one that something further on cannot hold."""
    if isinstance(value, list):
        return [_within_reason(one) for one in value]
    if isinstance(value, dict):
        return {_within_reason(key): _within_reason(one) for key, one in value.items()}
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"expected a whole number up to {LARGEST:,}, got {brief(value)}")
    if isinstance(value, float):
        finite = math.isfinite(value)  # else it is refused in other words
        if value and finite and not SMALLEST_DECIMAL <= abs(value) <= LARGEST_DECIMAL:
            raise ValueError(
                f"expected 0 or a number from {SMALLEST_DECIMAL:g} to {LARGEST_DECIMAL:g}, "
                f"got {value:g}"
            )
        return value + 0.0  # for -0.0 is equal to 0.0 and yet written in another way
    if isinstance(value, str | Path):
        _require_text(str(value))
    return value


def _require_text(value: str) -> None:
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"expected up to {LONGEST_TEXT:,} characters, got {len(value):,}")
    if re.search("[\0\ud800-\udfff]", value):
        raise ValueError(f"expected text in valid Unicode and without NUL, got {brief(value)}")
