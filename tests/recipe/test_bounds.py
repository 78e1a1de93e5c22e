"""A recipe that asks for too much is refused at once, whatever it would have grown to."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from warmup_distill.errors import RecipeError
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import load_recipe, validate

MINIMAL = """
teacher: bundled:teacher
student: bundled:student
prompts: {dataset: "bundled:problems", limit: 10}
"""
NINE = ", ".join(["*a{}"] * 9)


def ladder(line: str) -> str:
    """Nine levels, each of which names the one before it nine times."""
    return "".join(line.format(i, NINE.format(*[i - 1] * 9)) for i in range(1, 10))


def load(tmp_path: Path, text: str | bytes, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return load_recipe(path, overrides)


GROWING = {
    "aliases in lists of lists": "- &a0 [x]\n" + ladder("- &a{} [{}]\n"),
    "aliases in unknown keys": "a0: &a0 [x]\n" + ladder("a{0}: &a{0} [{1}]\n"),
    "aliases as keep_layers": f"{MINIMAL}cut: {{keep_layers: &a0 [1]}}\n"
    + ladder("b{0}: &a{0} [{1}]\n"),
    "aliases of mappings, merged": "a0: &a0 {x: 1}\n" + ladder("a{0}: &a{0} {{<<: [{1}]}}\n"),
    "an alias of itself": "&a [*a]",
    "an alias of itself in a mapping": "teacher: &a {x: *a}",
    "a chain of aliases": "a0: &a0 [x]\n"
    + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000)),
    "many anchors": "".join(f"- &a{i} x\n" for i in range(11_000)),
    "nested brackets": "[" * 50_000,
    "nested dashes": "- " * 50_000,
    "nested mappings": "{a: " * 5_000,
    "a list as a key": "? [a, b]\n: c",
    "a mapping as a key": "? {a: b}\n: c",
    "a number as a key": "1: 2",
    "a number of 5,000 digits": f"{MINIMAL}seed: {'9' * 5000}",
    "a number of 800,000 bits": f"{MINIMAL}seed: 0x{'f' * 200_000}",
    "a number in base sixty": f"{MINIMAL}seed: {':'.join(['59'] * 20_000)}",
    "a long name": f"{MINIMAL}warmup: {{loss: {'x' * 200_000}}}",
    "a long key": f"? {'k' * 100_000}\n: 1",
    "a long tag": "!" * 100_000,
    "many unknown keys": "".join(f"k{i}: 1\n" for i in range(4000)),
    "more than a recipe has": f"{MINIMAL}# {'x' * 300_000}",
    "UTF-16": MINIMAL.encode("utf-16"),
    "bytes that are no text": b"\xff\x00",
    "no valid Unicode": f'{MINIMAL}report: {{title: "\\ud800"}}',
    "NUL in a path": MINIMAL + 'evaluate: {benchmarks: [{name: b, file: "a\\0b"}]}',
    "a name that no file system holds": MINIMAL.replace("bundled:teacher", "x" * 256),
    "endless problems": MINIMAL.replace("10", "1000000000000"),
    "many problems": MINIMAL.replace("10", "50001"),
    "problems far away": MINIMAL.replace("10", "10, skip: 49991"),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_what_would_grow_without_bound_is_refused_in_a_short_message(
    name: str, tmp_path: Path
) -> None:
    began = time.perf_counter()
    with pytest.raises(RecipeError) as error:
        load(tmp_path, GROWING[name])
    assert 0 < len(str(error.value)) < 4000
    assert time.perf_counter() - began < 20  # written out, these would take hours or all memory


def test_a_recipe_may_use_aliases_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = f"\ufeff{MINIMAL}warmup: &one {{max_steps: 3}}\ndistill: *one\n"
    recipe = load(tmp_path, text)
    assert (recipe.warmup.max_steps, recipe.distill.max_steps) == (3, 3)


@pytest.mark.parametrize("name", ["pipe", "device", "folder", "none", "x" * 300])
def test_what_is_no_ordinary_file_is_not_read(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecipeError, match="expected a recipe"):
        load_recipe(tmp_path / name)


@pytest.mark.parametrize(
    "override",
    [
        f"a.{'9' * 5000}=1", f"evaluate.benchmarks.{'9' * 5000}=1", f"{'.' * 50_000}=1",
        "seed=[*x]", f"seed={'9' * 5000}", f"rollouts={'[' * 9000}", "teacher=\ud800", "=1", "a",
    ],
    ids=lambda override: override[:20].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_an_override_of_any_kind_is_refused_in_words(override: str, tmp_path: Path) -> None:
    text = (
        f"{MINIMAL}evaluate: {{benchmarks: [{{name: b, dataset: 'bundled:problems', limit: 1}}]}}"
    )
    with pytest.raises(RecipeError):
        load(tmp_path, text, override)


def numbers(model: type[BaseModel], where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where the recipe has a number."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from numbers(kind, (*where, name))
            elif kind in (int, float):
                yield (*where, name)


def nested(where: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(where):
        value = {name: value}
    return dict(value)


NUMBERS = sorted(set(numbers(Recipe)))
EXTREMES = [10**30, -(10**30), 1e308, -1e308, 1e-50, 5e-324, float("inf"), float("nan")]


def test_there_are_numbers_to_try() -> None:
    assert len(NUMBERS) > 60 and ("warmup", "beta") in NUMBERS


@pytest.mark.parametrize("where", NUMBERS, ids=".".join)
def test_no_number_of_a_recipe_can_be_extreme(where: tuple[str, ...]) -> None:
    for value in EXTREMES:
        with pytest.raises(RecipeError, match=where[-1]):
            validate(nested(where, value), "recipe")


def test_a_negative_zero_is_zero(tmp_path: Path) -> None:
    recipe = load(tmp_path, MINIMAL, "rollouts.continuation_temperature=-0.0")
    assert str(recipe.rollouts.continuation_temperature) == "0.0"
