"""What a script gives in place of a YAML file, held to the same rules."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from warmup_distill.errors import RecipeError
from warmup_distill.recipe.reading import explain, load_recipe, validate
from warmup_distill.recipe.section import Section
from warmup_distill.recipe.whole import Recipe

Part = TypeVar("Part", bound=Section)


def section_of(kind: type[Part], settings: Mapping[str, Any]) -> Part:
    """A section of the recipe from a script's settings, held to what the recipe would take.

    Raises:
        RecipeError: they do not validate; all faults are named at once.
    """
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        raise RecipeError("; ".join(explain(one, kind) for one in error.errors())) from error


def given_recipe(recipe: Any) -> Recipe:
    """A recipe from what a script gives: one that was read, its values, or the path of its file.

    Raises:
        RecipeError: it is nothing of the kind, or does not validate.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return validate(dict(recipe), "what is given")
    if isinstance(recipe, str | Path):
        return load_recipe(recipe)
    raise RecipeError(
        "recipe: expected what `load_recipe` returns, a dict such as {'teacher': …}, or the path "
        f"of a YAML file, got {type(recipe).__name__}."
    )
