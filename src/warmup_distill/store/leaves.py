"""What each stage leaves in a run directory, by name; whatever else lies there is not ours."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from warmup_distill.errors import RunError
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.controls import MODELS
from warmup_distill.store.artifacts import PART
from warmup_distill.store.fingerprints import NEEDS
from warmup_distill.store.removing import remove_empty, remove_files, sweep
from warmup_distill.store.writing import require_no_link

MANIFEST, RECIPE, LOCK, HOLDER = "manifest.json", "recipe.yaml", ".lock", ".lock-holder.json"

PARTS = ("prompts", "rollouts", "pairs")
"""Stages whose folders hold numbered parts."""

SCRATCH = ("checkpoints", "completions", "signals")
"""Folders of what is needed while stages are open."""

FOLDERS = (*NEEDS, *SCRATCH, "suites", "export")
"""All folders that this program makes in a run directory."""

FIGURES = (
    "mismatch-index", "margins", "replaced", "warmup-loss", "warmup-preferred", "warmup-margin",
    "warmup-distance", "distill-loss", "cut-loss",
)  # fmt: skip
"""What the report draws, besides the scores on each benchmark."""

_MODEL = (
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab"
    r"|model\.safetensors\.index|watch)\.json|model(-\d{5}-of-\d{5})?\.safetensors"
    r"|(vocab|merges)\.txt|(tokenizer|spiece|sentencepiece(\.bpe)?)\.model|[a-z]+\.tiktoken"
    r"|chat_template\.jinja|additional_chat_templates/[^/]+\.jinja|trainer_log\.jsonl"
)
_CHECKPOINTS = (
    rf"checkpoint-\d+/({_MODEL}|adapter_(config\.json|model\.safetensors)"
    r"|(optimizer|scheduler|scaler)\.pt|rng_state(_\d+)?\.pth|training_args\.bin"
    r"|(trainer_state|(\d+_)?own_state|seal)\.json)|best-\d+\.safetensors|watch\.json"
)


def leaves(folder: Path, stage: str, recipe: Recipe) -> list[str]:
    """The files of a stage that are there, as paths below the run directory; no links."""
    found = _matching(folder / stage, _pattern(stage, recipe))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _pattern(stage: str, recipe: Recipe) -> str:
    if stage in PARTS:
        return PART
    names = "|".join(re.escape(one.name) for one in recipe.evaluate.benchmarks)
    if stage == "report":
        figures = "|".join([*FIGURES, f"score-({names})"])
        return rf"(index\.html|report\.json|figures/({figures})\.(svg|pdf|csv))"
    if stage == "evaluate":
        return rf"({'|'.join(MODELS)})/(predictions\.parquet|({names})\.json)"
    return _MODEL


def _matching(folder: Path, pattern: str) -> Iterator[Path]:
    """Regular files below a folder; links are neither given nor followed."""
    for path in folder.rglob("*"):
        regular = path.is_file() and not path.is_symlink()
        if regular and re.fullmatch(pattern, path.relative_to(folder).as_posix()):
            yield path


def require_files(folder: Path, stage: str, recipe: Recipe) -> None:
    """Raise a RunError where a folder is in the place of a file that a stage will write."""
    for path in (folder / stage).rglob("*"):
        name = path.relative_to(folder / stage).as_posix()
        if path.is_dir() and re.fullmatch(_pattern(stage, recipe), name):
            raise RunError(f"expected a file at {path}, but it is a folder. Move it away.")


def clear_checkpoints(folder: Path, stage: str) -> None:
    """Remove the checkpoints of a stage, and what its watch kept."""
    scratch = folder / "checkpoints" / stage
    remove_files(list(_matching(scratch, _CHECKPOINTS)), above=folder / "checkpoints")
    remove_empty([*scratch.glob("checkpoint-*"), scratch])


def require_no_links(folder: Path, stages: Iterable[str]) -> None:
    """Refuse links in the place of a run's files and folders, and files in that of folders.

    Args:
        stages: those that will be written; of all others files may be links, folders may not.

    Raises:
        RunError: it names what is in the way.
    """
    for name in (MANIFEST, RECIPE, LOCK, HOLDER, *FOLDERS):
        require_no_link(folder / name)
        if name in FOLDERS and (folder / name).is_file():
            raise RunError(f"expected a folder at {folder / name}, but it is a file. Move it away.")
    written = {*stages, *SCRATCH}
    for name in FOLDERS:
        for where, folders, files in os.walk(folder / name):
            for one in (*folders, *(files if name in written else ())):
                require_no_link(Path(where) / one)


def sweep_run(folder: Path) -> None:
    """Remove what killed processes left half written in a run directory.

    An export holds no lock, so what it writes is not looked at.
    """
    sweep(folder)
    for name in FOLDERS[:-1]:
        for where, _, _ in os.walk(folder / name):
            sweep(Path(where))
