"""A study: one recipe run with several settings, several seeds, or both."""

import math
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from warmup_distill.recipe.section import OnDisk, Section, unit

MOST_RUNS = 10_000
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class StudySection(Section):
    """What a file for `study` holds."""

    recipe: Annotated[Path, OnDisk]
    """The recipe that all runs share; a relative name counts from the study's file."""
    title: str | None = None
    """Of the page; the file's name if absent."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Fields of the recipe, as `rollouts.limit`, that all runs have."""
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    """Fields with several values each: one run for every combination."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Fields with their values by the name of a setting: one run for each, times the grid."""
    seeds: list[Seed] = Field([0], min_length=1, json_schema_extra=unit("seed"))
    """Every setting is run with each of them."""
    until: str = "report"
    """The last stage of each run."""

    @model_validator(mode="after")
    def _are_several(self) -> Self:
        for name, values in self.grid.items():
            if not values:
                raise ValueError(f"`grid.{name}` has no values: name some, or leave it out")
            if len(values) != len({repr(one) for one in values}):
                raise ValueError(f"`grid.{name}` has a value twice")
        if len(self.seeds) != len(set(self.seeds)):
            raise ValueError("`seeds` has one of them twice")
        sizes = [len(self.seeds), max(1, len(self.settings)), *map(len, self.grid.values())]
        if (count := math.prod(sizes)) > MOST_RUNS:
            raise ValueError(f"expected up to {MOST_RUNS:,} runs, but these are {count:,}")
        return self

    @model_validator(mode="after")
    def _fields_stand_in_one_place(self) -> Self:
        settings = {name for one in self.settings.values() for name in one}
        if "seed" in self.set.keys() | self.grid.keys() | settings:
            raise ValueError("`seed` is not for `set`, `grid` or `settings`: give `seeds`")
        if any(name.partition(".")[0] == "cluster" for name in self.grid.keys() | settings):
            raise ValueError("`cluster` is the same for all runs: give it in `set` or the recipe")
        for name in self.grid.keys() & (self.set.keys() | settings):
            raise ValueError(f"`{name}` is in `grid` and elsewhere too: leave it out there")
        return self
