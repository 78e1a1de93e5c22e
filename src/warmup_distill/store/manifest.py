"""The run directory's manifest: which stages are complete, and what their files held.

A stage is entered as open, with what it depends on, when it begins, and as complete, with size and
hash of each of its files, after them. What is to be done again is stale until it begins: its files
are named there until they are removed, and no others are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import load_recipe
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.checking import faults, is_recorded, listed, recorded, require_no_strays
from warmup_distill.store.environment import describe_environment, device_name
from warmup_distill.store.leaves import (
    MANIFEST,
    RECIPE,
    clear_checkpoints,
    leaves,
    require_no_links,
)
from warmup_distill.store.removing import remove_files

FORMAT = 2
"""Of the manifest; another one where fingerprints are made in another way.

Before it had one, it held no hashes, and fingerprints were of samples of large files.
"""

_REMEDY = "Put back a copy of it, or start in a new --output-dir."

Entries = dict[str, dict[str, Any]]
"""What a manifest says of each stage."""


@dataclass(frozen=True)
class Manifest:
    """The file `manifest.json` of a run directory."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / MANIFEST

    @property
    def entries(self) -> Entries:
        """What is known of each stage that was begun."""
        entries: Entries = self.read()["stages"]
        return entries

    @property
    def contents(self) -> dict[str, Any]:
        """What the run's files and models held, as far as it is known."""
        found = self.read().get("contents")
        return found if isinstance(found, dict) else {}

    def complete(self, stage: str) -> bool:
        return is_complete(self.entries, stage)

    def begin(self, stage: str, fingerprint: str) -> None:
        """Note what an open stage depends on; what it finds was left by itself or is removed."""
        manifest = self.read()
        entry = manifest["stages"].get(stage, {})
        require_no_links(self.folder, [stage])
        if entry.get("state") != "open":
            self._clear(stage, entry)
            manifest["stages"][stage] = {"state": "open", "fingerprint": fingerprint}
            write_json(self.path, manifest)

    def note(self, stage: str, name: str, value: Any) -> None:
        """Keep what a stage that was begun has settled on; it stays until the stage begins anew."""
        manifest = self.read()
        if stage in manifest["stages"]:
            manifest["stages"][stage].setdefault("settled", {})[name] = value
            write_json(self.path, manifest)

    def charge(self, stage: str, cost: Iterable[Mapping[str, Any]], uses: Iterable[str]) -> None:
        """Keep what a stage that was begun has cost, as `ledger` has it.

        Args:
            uses: stages whose work it goes on from.
        """
        manifest = self.read()
        if stage in manifest["stages"]:
            manifest["stages"][stage] |= {"cost": list(cost), "uses": list(uses)}
            write_json(self.path, manifest)

    def noted(self, stage: str, name: str) -> Any:
        """What `note` has kept, or None."""
        return self.entries.get(stage, {}).get("settled", {}).get(name)

    def record(self, stage: str, fingerprint: str, seconds: float, counts: dict[str, Any]) -> None:
        """Mark a stage as complete, keep what its files hold, and remove its checkpoints."""
        manifest = self.read()
        entry = manifest["stages"].get(stage, {})
        manifest["stages"][stage] = {
            "state": "complete",
            "seconds": round(seconds, 2),
            "device": device_name(),
            "counts": counts,
            "fingerprint": fingerprint,
            "files": self.files(stage, load_recipe(self.folder / RECIPE)),
            **{name: entry[name] for name in ("cost", "uses", "settled") if name in entry},
        }
        write_json(self.path, manifest)
        clear_checkpoints(self.folder, stage)

    def enter(self, stage: str, entry: dict[str, Any]) -> None:
        """Enter a stage as another run's manifest has it; its files are there."""
        manifest = self.read()
        manifest["stages"][stage] = entry
        write_json(self.path, manifest)

    def require_there(self, because: Exception | None = None) -> None:
        """Raise a RunError if the run directory has gone, which then is the cause of an error."""
        if not self.path.exists():
            raise RunError(
                f"{self.folder} was removed or moved while a stage was at work, and what the stage "
                "has made since is of no use. Remove what is left of it, and run again."
            ) from because

    def files(self, stage: str, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """Size and hash of the files that a stage has left."""
        return recorded(self.folder, leaves(self.folder, stage, recipe))

    def faults(self, stages: Iterable[str]) -> dict[str, list[str]]:
        """For each of some stages that is complete: what is not as it was recorded.

        Raises:
            RunError: a file cannot be read, or lies among the stage's parts and is none of them.
        """
        entries = self.entries
        noted = {s: entries[s]["files"] for s in stages
                 if is_complete(entries, s) and "files" in entries[s]}  # fmt: skip
        for stage, files in noted.items():
            require_no_strays(self.folder, stage, files)
        return {stage: faults(self.folder, files) for stage, files in noted.items()}

    def require_intact(self, stages: Iterable[str]) -> None:
        """Raise a RunError if files of complete stages are not as they were recorded."""
        lines = [line for found in self.faults(stages).values() for line in found]
        if lines:
            raise RunError(
                "\n".join(
                    [
                        f"{self.folder} is not as its stages left it:",
                        *listed(lines),
                        "Put back a copy, or do it again: "
                        f"warmup-distill run {self.folder / RECIPE} --redo",
                    ]
                )
            )

    def read(self) -> dict[str, Any]:
        """All of the manifest; one without stages if there is no file.

        Raises:
            RunError: the file is no manifest.
        """
        if not self.path.exists():
            known = {"name": self.folder.name, "format": FORMAT, **describe_environment()}
            return known | {"contents": {}, "stages": {}}
        try:
            found = read_json(self.path)
        except RunError as error:
            raise RunError(f"{self.path} cannot be read: {error.__cause__}. {_REMEDY}") from error
        stages = found.get("stages") if isinstance(found, dict) else None
        if not isinstance(stages, dict) or not all(_is_entry(*one) for one in stages.items()):
            raise RunError(f"{self.path} is no manifest of this program. {_REMEDY}")
        return dict(found)

    def _clear(self, stage: str, entry: dict[str, Any]) -> None:
        """Remove the files of a stale stage; parts of rollouts that are whole judge themselves."""
        files = entry.get("files", {})
        if stage == "rollouts":
            files = [name for name in files if faults(self.folder, {name: files[name]})]
        remove_files([self.folder / name for name in files], above=self.folder)
        if entry:
            clear_checkpoints(self.folder, stage)


def is_complete(entries: Entries, stage: str) -> bool:
    return entries.get(stage, {}).get("state") == "complete"


def is_former(manifest: dict[str, Any]) -> bool:
    """Whether an earlier version made it, whose fingerprints say nothing to this one."""
    return manifest.get("format") != FORMAT


def _is_entry(stage: str, entry: Any) -> bool:
    return isinstance(entry, dict) and is_recorded(stage, entry.get("files", {}))
