"""Opening a run directory: new, or made by the same recipe, and as its stages left it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from warmup_distill.errors import RunError
from warmup_distill.foreign.showing import brief
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import dump_recipe, load_recipe
from warmup_distill.store.artifacts import read_notes, write_json, write_text
from warmup_distill.store.checking import listed
from warmup_distill.store.fingerprints import NEEDS, changed_fields, following, readers
from warmup_distill.store.leaves import (
    HOLDER,
    LOCK,
    MANIFEST,
    RECIPE,
    leaves,
    require_files,
    require_no_links,
    sweep_run,
)
from warmup_distill.store.manifest import FORMAT, Entries, Manifest, is_complete, is_former
from warmup_distill.store.writing import TEMPORARY

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Review:
    """How a run directory stands to a recipe."""

    differences: list[str]
    """A line for everything that the run depends on and that is not as it was."""
    faults: list[str]
    """A line for every file that is not as its stage left it."""
    redone: list[str]
    """Stages that --redo does again."""


def require_run(folder: Path) -> None:
    """Raise a RunError if a folder holds something, and no run of this program."""
    if not folder.exists():
        return
    require_no_links(folder, ())
    if (folder / RECIPE).exists():
        return
    others = {path.name for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name)}
    if others - {MANIFEST, LOCK, HOLDER} or Manifest(folder).entries:
        raise RunError(
            f"{folder} is not empty and holds no run of this program. "
            "Name an empty or new folder with --output-dir."
        )


def open_run(
    folder: Path,
    recipe: Recipe,
    known: Mapping[str, str],
    contents: Mapping[str, str | None],
    *,
    redo: bool = False,
    stages: Sequence[str] = tuple(NEEDS),
    alone: bool = False,
) -> None:
    """Start a run directory, or make sure that it is this recipe's and whole.

    Args:
        known: the recipe's fingerprints.
        contents: what its files and models hold.
        redo: what has changed is done again with all that depends on it, and the run follows the
            recipe from now on.
        stages: those that the recipe asks for, in order; later ones may be left out.
        alone: the last of them is the only one that will be run.

    Raises:
        RunError: the folder belongs to another recipe, or a file is not as its stage left it (what
            differs is named), and `redo` is not given; or it holds something else.
    """
    require_run(folder)
    sweep_run(folder)
    if not (folder / RECIPE).exists():
        write_json(folder / MANIFEST, Manifest(folder).read() | {"contents": contents})
        write_text(folder / RECIPE, dump_recipe(recipe))
        return
    review = review_run(folder, recipe, known, contents, stages)
    if not redo and (review.differences or review.faults):
        raise RunError(_what_differs(folder, review))
    if alone:
        _require_before(stages, review.redone)
    entries = Manifest(folder).entries
    kept = {s for s in stages if is_complete(entries, s) and s not in review.redone}
    for stage in {*stages} - kept:
        require_no_links(folder, [stage])
        require_files(folder, stage, recipe)
    _follow(folder, recipe, known, contents, review.redone)


def review_run(
    folder: Path,
    recipe: Recipe,
    known: Mapping[str, str],
    contents: Mapping[str, str | None],
    stages: Sequence[str] = tuple(NEEDS),
) -> Review:
    """Look at the run directory of a recipe; nothing is written. Arguments as of `open_run`.

    Raises:
        RunError: a file of it cannot be read, or is none of its own.
    """
    _require_room(folder, recipe, stages)
    manifest = Manifest(folder)
    changed = changed_fields(load_recipe(folder / RECIPE), recipe)
    former = is_former(manifest.read())
    stale = readers(changed, recipe) if former else _other(manifest.entries, known)
    damaged = {stage: lines for stage, lines in manifest.faults(stages).items() if lines}
    uncounted = _uncounted(manifest.entries, recipe)
    redone = {*stale, *following([*damaged, *uncounted], recipe)}.intersection(manifest.entries)
    differences = [f"{key}: {brief(there)} there, {brief(here)} here"
                   for key, (there, here) in changed.items()]  # fmt: skip
    if redone.intersection(stale) and not changed:
        before = manifest.contents
        others = [name for name in contents if before.get(name) != contents[name]]
        differences = [f"the content of a data file or a model: {', '.join(others)}"]
    if uncounted:
        differences.append(
            f"what {', '.join(uncounted)} cost: an earlier version did not count it, and a control "
            "is to cost as much"
        )
    return Review(
        differences=differences,
        faults=[line for lines in damaged.values() for line in lines],
        redone=[stage for stage in NEEDS if stage in redone],
    )


def _other(entries: Entries, known: Mapping[str, str]) -> list[str]:
    """Stages that were begun or done with other fingerprints."""
    return [
        stage
        for stage, fingerprint in known.items()
        if entries.get(stage, {}).get("state", "stale") != "stale"
        and entries[stage].get("fingerprint") != fingerprint
    ]


def _uncounted(entries: Entries, recipe: Recipe) -> list[str]:
    """Stages that do not say what they cost, of those that a control asks."""
    if not {"compute", "cold_start"}.intersection(recipe.controls):
        return []
    asked = ("cut", "rollouts", "warmup", "distill")
    return [one for one in asked if is_complete(entries, one) and "cost" not in entries[one]]


def _require_before(stages: Sequence[str], redone: Sequence[str]) -> None:
    """Refuse to redo a single stage where one before it would have to be redone first."""
    *before, stage = stages
    first = next((one for one in before if one in redone), None)
    if first:
        raise RunError(
            f"{stage} follows {first}, which depends on what has changed too. Run "
            f"`warmup-distill {first} RECIPE … --redo` first, or all with `run … --redo`."
        )


def _require_room(folder: Path, recipe: Recipe, stages: Sequence[str]) -> None:
    """Refuse to write over what no stage of this run has made.

    Rollouts know by themselves what they depend on: those of another run are welcome.
    """
    entries = Manifest(folder).entries
    for stage in stages:
        others = leaves(folder, stage, recipe) if stage not in entries else []
        if stage == "rollouts":
            others = [name for name in others if not read_notes(folder / name)]
        if others:
            raise RunError(
                f"{folder / others[0]} is in the way: `{stage}` would write there, and no stage of "
                "this run has made it. Move it away, or name another folder with --output-dir."
            )


def _follow(
    folder: Path,
    recipe: Recipe,
    known: Mapping[str, str],
    contents: Mapping[str, str | None],
    redone: Sequence[str],
) -> None:
    """Take up this recipe; what is to be done again becomes stale."""
    before, manifest = load_recipe(folder / RECIPE), Manifest(folder)
    there = manifest.read()
    if is_former(there):
        logger.warning(
            "%s was made by an earlier version: what it holds, its data and its models are taken "
            "as they are, and looked after from here on.", folder,
        )  # fmt: skip
    entries: Entries = {}
    for stage, entry in there["stages"].items():
        if stage in redone:
            files = entry["files"] if "files" in entry else manifest.files(stage, before)
            entries[stage] = {"state": "stale", "files": files}
            continue
        entries[stage] = dict(entry)
        if is_complete(there["stages"], stage) and "files" not in entry:
            entries[stage]["files"] = manifest.files(stage, before)
        if is_former(there) and stage in known:
            entries[stage]["fingerprint"] = known[stage]
    followed = there | {"format": FORMAT, "contents": contents, "stages": entries}
    if followed != there or not manifest.path.exists():
        write_json(manifest.path, followed)
    if before != recipe:
        write_text(folder / RECIPE, dump_recipe(recipe))


def _what_differs(folder: Path, review: Review) -> str:
    lines = []
    if review.differences:
        lines += [
            f"{folder} belongs to another recipe:",
            *listed(review.differences),
            "Name another folder with --output-dir, or run the recipe that is in it: "
            f"warmup-distill run {folder / RECIPE}",
        ]
    if review.faults:
        lines += [
            f"{folder} is not as its stages left it:",
            *listed(review.faults),
            "Put back a copy of what is missing or has changed.",
        ]
    redone = ", ".join(review.redone) or "nothing that is done"
    return "\n".join([*lines, f"Or add --redo, which does again: {redone}."])
