"""The run directory's manifest: which stages are complete, and the recipe that the run follows.

A stage is entered as open, with what it depends on, when it begins, and as complete after its
artifacts.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import dump_recipe, load_recipe
from warmup_distill.store.artifacts import read_json, remove, write_json, write_text
from warmup_distill.store.environment import describe_environment
from warmup_distill.store.fingerprints import changed_fields
from warmup_distill.store.locking import HOLDER, LOCK

FOLDERS = {
    "prompts": ("prompts",),
    "cut": ("cut", "checkpoints/cut"),
    "rollouts": (),  # its parts know what they depend on, and are looked at one by one
    "pairs": ("pairs",),
    "warmup": ("warmup", "checkpoints/warmup"),
    "distill": ("distill", "checkpoints/distill"),
    "control": ("control", "checkpoints/control"),
    "evaluate": ("evaluate",),
    "report": ("report",),
}
"""What a stage leaves, below the run directory; removed before it is done again.

The teacher's signals and completions know by themselves what they depend on.
"""


_REMEDY = (
    "Put back a copy of it, or remove it and run again: rollouts are kept, other stages done again."
)


@dataclass(frozen=True)
class Manifest:
    """The file `manifest.json` of a run directory."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "manifest.json"

    def open(self, recipe: Recipe, known: dict[str, str], *, redo: bool = False) -> None:
        """Start the run directory, or make sure that it belongs to this recipe.

        Args:
            known: the recipe's fingerprints.
            redo: where the recipe or a file has changed, what depends on it is done again, and the
                run follows the recipe from now on.

        Raises:
            RunError: the folder belongs to another recipe (what differs is named) and `redo` is
                not given, or it holds something that is no run.
        """
        ours = self.folder / "recipe.yaml"
        if not ours.exists():
            self._start(recipe)
            return
        self._sweep()
        if not self.path.exists():
            self._write_new()
        before = load_recipe(ours)
        stale, changed = self.stale(known), changed_fields(before, recipe)
        if (stale or changed) and not redo:
            raise RunError(_what_differs(self.folder, changed, stale))
        if stale:
            manifest = self._read()
            manifest["stages"] = {k: v for k, v in manifest["stages"].items() if k not in stale}
            write_json(self.path, manifest)
        if before != recipe:
            write_text(ours, dump_recipe(recipe))

    def stale(self, known: dict[str, str]) -> list[str]:
        """Stages that were begun or done with other fingerprints."""
        done = self._read()["stages"] if self.path.exists() else {}
        return [
            stage
            for stage, fingerprint in known.items()
            if stage in done and done[stage].get("fingerprint") != fingerprint
        ]

    def complete(self, stage: str) -> bool:
        if not self.path.exists():
            return False
        return bool(self._read()["stages"].get(stage, {}).get("state") == "complete")

    def begin(self, stage: str, fingerprint: str) -> None:
        """Note what an open stage depends on; what it finds was left by itself or is removed."""
        manifest = self._read()
        if stage not in manifest["stages"]:
            self._clear(stage)
            manifest["stages"][stage] = {"state": "open", "fingerprint": fingerprint}
            write_json(self.path, manifest)

    def record(self, stage: str, fingerprint: str, seconds: float, counts: dict[str, Any]) -> None:
        """Mark a stage as complete."""
        manifest = self._read()
        manifest["stages"][stage] = {
            "state": "complete",
            "seconds": round(seconds, 2),
            "counts": counts,
            "fingerprint": fingerprint,
        }
        write_json(self.path, manifest)

    def _read(self) -> dict[str, Any]:
        try:
            found = read_json(self.path)
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.path} cannot be read: {error}. {_REMEDY}") from error
        stages = found.get("stages") if isinstance(found, dict) else None
        if not isinstance(stages, dict) or not all(isinstance(s, dict) for s in stages.values()):
            raise RunError(f"{self.path} is no manifest of this program. {_REMEDY}")
        return dict(found)

    def _start(self, recipe: Recipe) -> None:
        self._sweep()
        known = {self.path, self.folder / LOCK, self.folder / HOLDER}
        if set(self.folder.glob("*")) - known:
            raise RunError(
                f"{self.folder} is not empty and holds no run of this program. "
                "Name an empty or new folder with --output-dir."
            )
        self._write_new()
        write_text(self.folder / "recipe.yaml", dump_recipe(recipe))

    def _write_new(self) -> None:
        write_json(self.path, {"name": self.folder.name, **describe_environment(), "stages": {}})

    def _sweep(self) -> None:
        """Remove what a killed process had half written, which only its own name gives away."""
        for pattern in (".manifest.json.*.tmp", ".recipe.yaml.*.tmp"):
            for path in self.folder.glob(pattern):
                path.unlink()
        if not self.path.exists():
            return
        for path in list(self.folder.rglob(".*.*")):
            if path.is_file() and path.suffix == ".tmp":
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def _clear(self, stage: str) -> None:
        for name in FOLDERS[stage]:
            remove(self.folder / name)


def _what_differs(folder: Path, changed: dict[str, tuple[Any, Any]], stale: list[str]) -> str:
    lines = [f"  {key}: {there!r} there, {here!r} here" for key, (there, here) in changed.items()]
    lines = lines or ["  the content of a data file or a model folder"]
    return "\n".join(
        [
            f"{folder} belongs to another recipe:",
            *lines,
            "Name another folder with --output-dir, or run the recipe that is in it: "
            f"warmup-distill run {folder / 'recipe.yaml'}",
            f"Or add --redo, which does again: {', '.join(stale) or 'nothing that is done'}.",
        ]
    )
