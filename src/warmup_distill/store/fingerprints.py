"""What each stage depends on, as a digest: a change redoes that stage and what follows it."""

import errno
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.recipe import Recipe, TrainSection, controls
from warmup_distill.recipe.engine import EngineSection
from warmup_distill.recipe.trainer import TrainerSection
from warmup_distill.store.hashing import sha256

FREE = frozenset(
    {"rollouts.batch_tokens", "evaluate.batch_tokens", "teacher_device_map"}
    | {f"{section}.{name}" for section in ("cut", "warmup", "distill")
       for name in ("row_tokens", "save_steps")}
    | {f"rollouts.engine.{field}" for field in EngineSection.model_fields if field != "name"}
)  # fmt: skip
"""Fields that change how fast or how safely a run goes, not what comes out."""

LATER: Mapping[str, Any] = {
    **dict.fromkeys(("cut.completions.verifier", "distill.completions.verifier")),
    **dict.fromkeys(("cut.limit", "distill.limit")),
    **{f"{section}.trainer.{name}": field.get_default()
       for section in ("cut", "warmup", "distill")
       for name, field in TrainerSection.model_fields.items()},
    "save_dtype": "source",
}  # fmt: skip
"""Fields that earlier versions did not have, or did not read here, and where they say nothing."""

MODELS = ("teacher", "student", "pairs.reward_model")
"""Fields that name a model, whose files a fingerprint is of too."""

DISTILLATIONS = ("distill", "control", "control_compute", "control_cold_start")
"""Stages that distil on what the section `distill` says."""

UNREAD = frozenset({"README.md", "trainer_log.jsonl", "watch.json"})
"""Files in a model folder that no loader reads: its card, and how it was trained."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a stage reads: parts of the recipe, and what other stages made."""

    fields: tuple[str, ...]
    stages: tuple[str, ...] = ()


TRAINED = ("seed", "dtype", "teacher_dtype", "save_dtype")
"""What every training reads."""

DISTILLED = (*TRAINED, "distill", "rollouts.max_new_tokens")
"""What every distillation of a student reads."""

COLD = (
    *TRAINED, "rollouts.max_new_tokens", "distill.completions.source", "distill.max_length",
    *(f"distill.{name}" for name in TrainSection.model_fields
      if name not in ("max_steps", "num_train_epochs")),
)  # fmt: skip
"""What a cold start reads: how it is trained, but not on what or for how long."""

NEEDS = {
    "prompts": Needs(fields=("teacher", "student", "prompts", "rollouts.max_new_tokens")),
    "cut": Needs(fields=(*TRAINED, "cut"), stages=("prompts",)),
    "rollouts": Needs(
        fields=("seed", "dtype", "teacher_dtype", "rollouts"), stages=("prompts", "cut")
    ),
    "pairs": Needs(fields=("pairs",), stages=("rollouts",)),
    "warmup": Needs(fields=(*TRAINED, "warmup"), stages=("pairs",)),
    "distill": Needs(
        fields=DISTILLED,
        stages=("prompts", "warmup"),
    ),
    "control": Needs(
        fields=DISTILLED,
        stages=("prompts", "cut"),
    ),
    "control_compute": Needs(fields=DISTILLED, stages=("prompts", "cut", "distill")),
    "cold_start": Needs(fields=COLD, stages=("prompts", "cut", "warmup")),
    "control_cold_start": Needs(fields=DISTILLED, stages=("prompts", "cold_start")),
    "control_corrected": Needs(fields=DISTILLED, stages=("prompts", "cut", "rollouts")),
    "evaluate": Needs(
        fields=("seed", "dtype", "teacher_dtype", "evaluate", "rollouts.margin_threshold",
                "rollouts.max_new_tokens", "prompts.format", "prompts.system",
                "prompts.chat_template_kwargs", "control"),
        stages=("cut", "warmup", "distill", "control"),
    ),
    "report": Needs(fields=("report",), stages=("rollouts", "pairs", "evaluate")),
}  # fmt: skip
"""Every stage, in order."""


def read_by(stage: str, recipe: Recipe) -> tuple[str, ...]:
    """The stages whose work a stage reads, as this recipe has it."""
    found = NEEDS[stage].stages
    if stage in DISTILLATIONS and recipe.distill.completions.source == "rollouts":
        found = (*found, "rollouts")
    if stage == "evaluate":
        asked = (one for one in controls.stages_of(recipe.controls) if one not in found)
        found = (*found, *asked)
    return found


def contents(recipe: Recipe, identity: Callable[[str], str]) -> dict[str, str | None]:
    """What each file and model of a recipe holds, by its name there.

    Args:
        identity: what tells a model from others, by its name.
    """
    models = {name: identity(name) for needs in NEEDS.values() for name in _models(recipe, needs)}
    files = {
        name: content(Path(name)) for needs in NEEDS.values() for name in _files(recipe, needs)
    }
    return {**models, **files}


def fingerprints(recipe: Recipe, known: Mapping[str, str | None]) -> dict[str, str]:
    """A digest per stage of all that it depends on.

    Args:
        known: the contents of the recipe's files and models.
    """
    found: dict[str, str] = {}
    for stage in NEEDS:
        before = [found[name] for name in read_by(stage, recipe)]
        facts = asked(recipe, stage, known) | {"stages": before}
        found[stage] = digest(facts)
    return found


def asked(recipe: Recipe, stage: str, known: Mapping[str, str | None]) -> dict[str, Any]:
    """What a stage reads by itself; arguments as of `fingerprints`."""
    values, needs = recipe.model_dump(mode="json"), NEEDS[stage]
    names = [*_models(recipe, needs), *_files(recipe, needs)]
    if stage == "control_corrected" and recipe.distill.max_steps:
        values["distill"]["limit"] = None  # it has rows of its own, and this many steps of them
    fields = {field: _at(values, field) for field in needs.fields}
    return {
        "fields": {field: found for field, found in fields.items() if found or field not in LATER},
        "contents": {name: known[name] for name in names},
    }


def digest(facts: Any) -> str:
    """A short digest of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def changed_fields(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """Fields that differ and matter, with both values."""
    old, new = (_flat(one.model_dump(mode="json", exclude={"cluster"})) for one in (before, after))
    keys = [key for key in {**old, **new} if key not in FREE and old.get(key) != new.get(key)]
    return {key: (old.get(key), new.get(key)) for key in keys}


def meaning(recipe: Recipe) -> str:
    """A digest of all in a recipe that changes what comes out."""
    flat = _flat(recipe.model_dump(mode="json", exclude={"cluster"}))
    return digest({key: value for key, value in flat.items() if key not in FREE})


def readers(keys: Iterable[str], recipe: Recipe) -> list[str]:
    """The stages that read one of these fields, and those that follow them."""
    changed = tuple(keys)
    reading = [
        stage
        for stage, needs in NEEDS.items()
        if any(f"{key}.".startswith(f"{field}.") for key in changed for field in needs.fields)
    ]
    return following(reading, recipe)


def following(stages: Iterable[str], recipe: Recipe) -> list[str]:
    """Some stages and all that come after them, in order."""
    found = set(stages)
    for stage in NEEDS:
        if found.intersection(read_by(stage, recipe)):
            found.add(stage)
    return [stage for stage in NEEDS if stage in found]


def content(path: Path) -> str | None:
    """A digest of every byte of a file or a model folder; None for what is not on this disk.

    Of a folder it is that of its files but for those in `UNREAD` and hidden ones, and of the chat
    templates that `transformers` keeps in a folder below it.

    Raises:
        RunError: a file is there and cannot be read.
    """
    try:
        path = path.expanduser()
        if path.is_dir():
            return digest([[str(one.relative_to(path)), sha256(one)] for one in _inside(path)])
        return sha256(path)[:16] if path.is_file() else None
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG or isinstance(error, RuntimeError):
            return None
        raise RunError(f"{path} cannot be read: {error}") from error


def _inside(folder: Path) -> list[Path]:
    found = [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]
    read = (path for path in found if path.name not in UNREAD and not path.name.startswith("."))
    return sorted(path for path in read if path.is_file())


def _at(values: dict[str, Any], field: str) -> Any:
    found = _value(values, field)
    flat = _flat(found, field)
    left_out = FREE | {key for key, nothing in LATER.items() if flat.get(key) == nothing}
    return {key: value for key, value in flat.items() if key not in left_out}


def _value(values: Any, field: str) -> Any:
    for part in field.split("."):
        values = values[part]
    return values


def _flat(values: Any, where: str = "") -> dict[str, Any]:
    if not isinstance(values, dict) or (where and not values):
        return {where: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{where}.{key}" if where else key)
    return flat


def _models(recipe: Recipe, needs: Needs) -> list[str]:
    """Models that a stage reads by itself."""
    values = recipe.model_dump()
    names = [_value(values, field) for field in MODELS
             if any(f"{field}.".startswith(f"{one}.") for one in needs.fields)]  # fmt: skip
    return [name for name in dict.fromkeys(names) if name]


def _files(recipe: Recipe, needs: Needs) -> list[str]:
    """Files that a stage reads by itself: whatever its fields of the recipe name."""
    values = recipe.model_dump()
    found = [str(path) for field in needs.fields for path in _paths(_value(values, field))]
    return list(dict.fromkeys(found))


def _paths(values: Any) -> Iterator[Path]:
    if isinstance(values, Path):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _paths(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _paths(value)
