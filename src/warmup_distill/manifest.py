"""The run directory's manifest: which stages are complete, and the recipe that the run follows.

A stage is written into the manifest after its artifacts, so a stage that is in it is complete.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.artifacts import read_json, write_json, write_text
from warmup_distill.config import Recipe
from warmup_distill.environment import describe_environment
from warmup_distill.errors import RunError
from warmup_distill.recipe import dump_recipe, load_recipe


@dataclass(frozen=True)
class Manifest:
    """The file `manifest.json` of a run directory."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "manifest.json"

    def open(self, recipe: Recipe) -> None:
        """Start the run directory, or make sure that it belongs to this recipe.

        Raises:
            RunError: the folder belongs to another recipe (what differs is named), or holds
                something that is no run.
        """
        ours = self.folder / "recipe.yaml"
        if ours.exists():
            _require_same_recipe(load_recipe(ours), recipe, self.folder)
            return
        strangers = [path for path in self.folder.glob("*") if path != self.path]
        if strangers:
            raise RunError(
                f"{self.folder} is not empty and holds no run of this program. "
                "Name an empty or new folder with --output-dir."
            )
        write_json(self.path, {"name": self.folder.name, **describe_environment(), "stages": {}})
        write_text(ours, dump_recipe(recipe))

    def complete(self, stage: str) -> bool:
        return self.path.exists() and stage in read_json(self.path)["stages"]

    def record(self, stage: str, recipe: Recipe, seconds: float, counts: dict[str, Any]) -> None:
        """Mark a stage as complete."""
        manifest = read_json(self.path)
        manifest["stages"][stage] = {
            "state": "complete",
            "seconds": round(seconds, 2),
            "counts": counts,
            "fingerprint": fingerprint(recipe),
        }
        write_json(self.path, manifest)


def fingerprint(recipe: Recipe) -> str:
    """A digest of everything a stage may depend on."""
    text = json.dumps(recipe.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_same_recipe(theirs: Recipe, recipe: Recipe, folder: Path) -> None:
    before, after = _flat(theirs.model_dump(mode="json")), _flat(recipe.model_dump(mode="json"))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if not keys:
        return
    lines = [f"  {key}: {before.get(key)!r} there, {after.get(key)!r} here" for key in keys]
    raise RunError(
        "\n".join(
            [
                f"{folder} belongs to another recipe:",
                *lines,
                "Name another folder with --output-dir, or run the recipe that is in it: "
                f"warmup-distill run {folder / 'recipe.yaml'}",
            ]
        )
    )


def _flat(values: Any, where: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {where: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{where}.{key}" if where else key)
    return flat
