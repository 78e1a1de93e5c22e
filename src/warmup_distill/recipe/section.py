"""What a section of the recipe is."""

from typing import Any

from pydantic import BaseModel, ConfigDict


def unit(name: str) -> dict[str, Any]:
    """The unit of a number, shown beside its range in docs/recipe.md."""
    return {"unit": name}


class Section(BaseModel):
    """A part of the recipe: unknown keys, NaN and infinity are errors, and nothing changes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
