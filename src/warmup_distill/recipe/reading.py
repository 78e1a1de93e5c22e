"""Reading a recipe: YAML in, a validated `Recipe` out, or one message with everything wrong."""

import difflib
import math
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from warmup_distill.errors import RecipeError
from warmup_distill.foreign.reading import read_text, reading
from warmup_distill.foreign.showing import brief
from warmup_distill.recipe.whole import Recipe

Whole = TypeVar("Whole", bound=BaseModel)

SYNONYMS = {
    "dpo": "sigmoid", "cdpo": "sigmoid", "slic": "hinge", "kl": "forward_kl", "kd": "forward_kl",
    "gkd": "jensen_shannon", "cross_entropy": "sft", "ce": "sft",
}  # fmt: skip
"""What else the field calls some of our names."""

MOST_CHARACTERS = 2**18
"""Of a recipe; the longest in use has a few thousand."""
MOST_NODES = 10_000
"""Keys and values of a recipe, with every alias written out."""
MOST_FAULTS = 20
"""Faults that a message names."""
MOST_SAID = 1000
"""Characters of what the YAML reader says."""
MOST_KEY = 80
"""Characters of a key in a message."""


class _RecipeLoader(yaml.SafeLoader):
    """YAML's safe loader, except that a key given twice is an error, and so is too much of all."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _size(node, {}) > MOST_NODES:
            raise yaml.YAMLError(f"expected up to {MOST_NODES:,} values, aliases written out")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise yaml.YAMLError(f"expected a name as key, got {brief(key)} (line {line})")
            if key in seen:
                raise yaml.YAMLError(f"the key {brief(key)} is given twice (line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node is, with every alias written out."""
    if id(node) not in known:
        known[id(node)] = math.inf  # met again below, it holds itself
        below = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in below for part in pair]
        known[id(node)] = 1 + sum(_size(one, known) for one in below)
    return known[id(node)]


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        path: a YAML file.
        overrides: `section.key=value` each, the value in YAML, as given to `--set`.

    Raises:
        RecipeError: the file is missing, is no YAML mapping, or does not validate; all faults of
            the recipe are named at once.
    """
    values = read_values(path, "a recipe")
    override(values, overrides)
    return validate(values, str(path))


def read_values(path: str | Path, what: str) -> dict[str, Any]:
    """What stands in a YAML file, which is no more than such a file may hold.

    Args:
        what: the file is, in a message.

    Raises:
        RecipeError: the file is missing, or is no YAML mapping.
    """
    path = Path(path)
    said = f"expected {what} (YAML, UTF-8) at {path}, but it cannot be read"
    values = _parse(read_text(path, RecipeError, said, most=MOST_CHARACTERS), str(path))
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected a mapping such as `key: …`, got {brief(values)}")
    return values


def override(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Put `section.key=value` each into a recipe's values, as given to `--set`."""
    for one in overrides:
        path, equals, text = one.partition("=")
        if not equals or not path:
            raise RecipeError(f"--set expects key=value such as rollouts.num_samples=4, got {one}")
        put(values, path, _parse(text, f"--set {one}"), f"--set {one}")


def put(values: dict[str, Any], path: str, value: Any, said: str) -> None:
    """Put a value where a path such as `rollouts.num_samples` says.

    Args:
        said: begins the message of a RecipeError, where there is no such place.
    """
    *sections, key = path.split(".")
    target: Any = values
    for section in sections:
        if isinstance(target, dict) and target.get(section) is None:
            target[section] = {}
        target = target[_place(target, section, said)]
    target[_place(target, key, said)] = value


def validate(values: dict[str, Any], where: str) -> Recipe:
    """Validate a recipe's values; `where` begins the message."""
    return validate_as(Recipe, values, where, "recipe")


def validate_as(kind: type[Whole], values: dict[str, Any], where: str, name: str) -> Whole:
    """Validate what a file holds; `where` begins the message, and `name` says what it should be."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        faults = error.errors()
        lines = [f"  {explain(detail, kind)}" for detail in faults[:MOST_FAULTS]]
        lines += [f"  and {len(faults) - MOST_FAULTS} more"] if faults[MOST_FAULTS:] else []
        raise RecipeError("\n".join([f"{where} is not a valid {name}:", *lines])) from error


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML; `load_recipe` of it gives the same recipe."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _parse(text: str, where: str) -> Any:
    with reading(RecipeError, f"{where} does not parse as YAML"):
        try:
            return yaml.load(text, Loader=_RecipeLoader)  # derives from SafeLoader
        except yaml.YAMLError as error:  # says in several lines what and where
            said = str(error)[:MOST_SAID]
            raise RecipeError(f"{where} does not parse as YAML: {said}") from error


def _place(target: Any, key: str, said: str) -> str | int:
    """Where `key` is in a section of the recipe, or in a list by its number from 0."""
    if isinstance(target, dict):
        return key
    if not isinstance(target, list):
        raise RecipeError(f"{said}: what comes before {key} is not a section or a list")
    if not key.isdecimal() or len(key) > 9 or int(key) >= len(target):
        raise RecipeError(
            f"{said}: expected a number from 0 to {len(target) - 1}, got {brief(key)}"
        )
    return int(key)


def explain(detail: ErrorDetails, model: type[BaseModel] = Recipe) -> str:
    """One fault of a recipe, or of one of its sections, in a line."""
    where = ".".join(str(part)[:MOST_KEY] for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = _fields_at(detail["loc"][:-1], model)
        hint = (
            _nearest(str(detail["loc"][-1])[:MOST_KEY], known) or f"known keys: {', '.join(known)}"
        )
        return f"{where}: unknown key; {hint}"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if detail["type"] == "value_error":
        return f"{where}: {message}" if where else message
    if detail["type"] == "missing":
        return f"{where}: required, but missing"
    given = f"{where}: {message}, got {brief(detail['input'])}"
    if detail["type"] == "literal_error":
        choices = [part.strip(" '") for part in re.split(",| or ", detail["ctx"]["expected"])]
        question = _nearest(brief(detail["input"]).strip("'"), choices)
        return f"{given}; {question}" if question else given
    return given


def _nearest(given: str, known: Sequence[str]) -> str | None:
    """A question after the likeliest of what is known, if one is near or begins the same way."""
    if SYNONYMS.get(given.lower()) in known:
        return f"did you mean {SYNONYMS[given.lower()]}?"
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    if not near:  # jsd, fkl, rkl
        near = [name for name in known if "_" in name and given.startswith(_initials(name))]
    return f"did you mean {near[0]}?" if near else None


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def _fields_at(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The keys that the recipe knows at a place such as ("evaluate", "benchmarks", 0)."""
    for part in location:
        if isinstance(part, str):
            model = next(_models_in(model.model_fields[part].annotation))
    return list(model.model_fields)


def _models_in(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
