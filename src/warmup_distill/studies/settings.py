"""The runs of a study: its recipe, with a value for every field that varies, and a seed."""

import copy
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.errors import RecipeError
from warmup_distill.pipeline import STAGES, stages_of
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import override, put, read_values, validate, validate_as
from warmup_distill.recipe.study import StudySection
from warmup_distill.store.fingerprints import digest

LONGEST = 120
"""Characters of a folder's name."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a study."""

    name: str
    """Of its folder: the values of its setting, and its seed."""
    setting: Mapping[str, Any]
    """What varies, by its name in the recipe; the name of the setting is under `setting`."""
    seed: int
    recipe: Recipe
    stages: tuple[str, ...]
    """Those that are run, in order."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study that was read."""

    name: str
    title: str
    runs: tuple[Run, ...]


def load_study(path: str | Path, overrides: tuple[str, ...] = ()) -> Study:
    """Read a study and the recipe of each of its runs.

    Args:
        overrides: `section.key=value` each, put into every recipe before what the study sets.

    Raises:
        RecipeError: a file is missing, or does not validate; or a run's recipe does not.
    """
    path = Path(path)
    section = validate_as(StudySection, read_values(path, "a study"), str(path), "study")
    _require_stage(section.until, path)
    values = read_values(path.parent / section.recipe, "a recipe")
    override(values, overrides)
    for name, value in section.set.items():
        put(values, name, value, f"{path}: set.{name}")
    runs = tuple(_runs(section, values, path))
    return Study(name=path.stem, title=section.title or path.stem, runs=runs)


def _require_stage(stage: str, path: Path) -> None:
    if stage not in STAGES:
        raise RecipeError(f"{path}: until: expected one of {', '.join(STAGES)}, got {stage}")


def _runs(section: StudySection, values: dict[str, Any], path: Path) -> Iterator[Run]:
    names: set[str] = set()
    for setting in _settings(section):
        for seed in section.seeds:
            name = _unlike(_name(setting, seed), setting, names)
            found = copy.deepcopy(values)
            for field, value in (setting | {"seed": seed}).items():
                if field != "setting":
                    put(found, field, value, f"{path}: {name}")
            for field, value in section.settings.get(setting.get("setting", ""), {}).items():
                put(found, field, value, f"{path}: {name}")
            recipe = validate(found, f"{path}: {name}")
            stages = [*itertools.takewhile(lambda one: one != section.until, STAGES), section.until]
            wanted = tuple(stage for stage in stages_of(recipe) if stage in stages)
            yield Run(
                name=name,
                setting={field: _read(recipe, field, value) for field, value in setting.items()},
                seed=seed,
                recipe=recipe,
                stages=wanted,
            )


def _read(recipe: Recipe, field: str, value: Any) -> Any:
    """A value as the recipe has it: YAML takes 1e-6 for a text."""
    if field == "setting" or not isinstance(value, str | int | float):
        return value
    found: Any = recipe
    for part in field.split("."):
        found = getattr(found, part, value)
    return found if isinstance(found, str | int | float) else value


def _unlike(name: str, setting: Mapping[str, Any], taken: set[str]) -> str:
    """A name that no folder has yet, whatever its file system takes for the same."""
    short = name if len(name) <= LONGEST else name[: LONGEST - 7]
    if short != name or name.casefold() in taken:
        short = f"{short}-{digest([setting, name])[:6]}"
    taken.add(short.casefold())
    return short


def _settings(section: StudySection) -> Iterator[dict[str, Any]]:
    """What varies: every combination of the named settings and the values of the grid."""
    named = [{"setting": name} for name in section.settings] or [{}]
    for one in named:
        for values in itertools.product(*section.grid.values()):
            yield one | dict(zip(section.grid, values, strict=True))


def _name(setting: Mapping[str, Any], seed: int) -> str:
    """A folder's name that says what varies, such as `beta=0.5,seed=42`."""
    parts = [_said(field, value) for field, value in setting.items()]
    return ",".join([*parts, f"seed={seed}"])


def _said(field: str, value: Any) -> str:
    text = re.sub(r"[^A-Za-z0-9.+_-]+", "-", str(value))
    text = text if isinstance(value, int | float) else text.strip("-.")
    return text if field == "setting" else f"{field.rpartition('.')[2]}={text}"
