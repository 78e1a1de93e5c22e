"""Write docs/recipe.md from the recipe's definition; a test holds the two together.

python scripts/recipe_reference.py
"""

import typing
from collections.abc import Iterator
from pathlib import Path

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from warmup_distill.recipe import Recipe

TARGET = Path(__file__).parents[1] / "docs" / "recipe.md"

HEAD = """# The recipe, field by field

Generated from `src/warmup_distill/recipe/` by `python scripts/recipe_reference.py`.

A recipe is a YAML file. It is validated as a whole before anything is loaded; an unknown key is an
error. `--set section.key=value` overrides a field on the command line. The resolved recipe is
saved as `recipe.yaml` in the run directory.

In every field, a whole number is at most 2,147,483,647, and a decimal number 0 or from 1e-12 to
1e12 in size; a recipe has at most 10,000 values, aliases written out.
"""

SIGNS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}


def recipe_reference() -> str:
    """The text of docs/recipe.md."""
    parts = [HEAD]
    for path, model in [("", Recipe), *_sections(Recipe, "")]:
        heading = f"`{path}`" if path else "Top level"
        rows = [
            _row(name, field)
            for name, field in model.model_fields.items()
            if not _models_in(field.annotation) or name == "benchmarks"
        ]
        parts += [
            f"\n## {heading}\n\n{model.__doc__}\n",
            "| field | default | unit, range | meaning |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    return "\n".join(parts) + "\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        for section in _models_in(field.annotation):
            where = f"{path}.{name}".lstrip(".")
            yield where, section
            yield from _sections(section, where)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_plain(field.default)}`"
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    bounds = [
        f"{sign} {getattr(rule, kind.__name__.lower())}"
        for rule in field.metadata
        for kind, sign in SIGNS.items()
        if isinstance(rule, kind)
    ]
    limits = ", ".join([*([str(extra["unit"])] if "unit" in extra else []), *bounds])
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"| `{name}` | {default} | {limits or _choices(field)} | {meaning} |"


def _plain(value: object) -> str:
    """A default as it would stand in the YAML file."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _choices(field: FieldInfo) -> str:
    return " or ".join(f"`{value}`" for value in _literals(field.annotation))


def _literals(annotation: object) -> list[object]:
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [value for part in typing.get_args(annotation) for value in _literals(part)]


if __name__ == "__main__":
    TARGET.write_text(recipe_reference(), encoding="utf-8")
