"""What each stage depends on, as a digest: a change redoes that stage and what follows it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.recipe import Recipe

FREE = frozenset(
    {"rollouts.batch_tokens", "evaluate.batch_tokens"}
    | {f"{section}.save_steps" for section in ("cut", "warmup", "distill")}
)
"""Fields that change how fast or how safely a run goes, not what comes out."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a stage reads: parts of the recipe, and what other stages made."""

    fields: tuple[str, ...]
    stages: tuple[str, ...] = ()


NEEDS = {
    "prompts": Needs(fields=("teacher", "student", "prompts", "rollouts.max_new_tokens")),
    "cut": Needs(fields=("seed", "dtype", "cut"), stages=("prompts",)),
    "rollouts": Needs(fields=("seed", "dtype", "rollouts"), stages=("prompts", "cut")),
    "pairs": Needs(fields=("pairs",), stages=("rollouts",)),
    "warmup": Needs(fields=("seed", "dtype", "warmup"), stages=("pairs",)),
    "distill": Needs(
        fields=("seed", "dtype", "distill", "rollouts.max_new_tokens"), stages=("prompts", "warmup")
    ),
    "control": Needs(
        fields=("seed", "dtype", "distill", "rollouts.max_new_tokens"), stages=("prompts", "cut")
    ),
    "evaluate": Needs(
        fields=("seed", "dtype", "evaluate", "rollouts.margin_threshold",
                "rollouts.max_new_tokens", "prompts.format", "prompts.system",
                "prompts.chat_template_kwargs", "control"),
        stages=("cut", "warmup", "distill", "control"),
    ),
    "report": Needs(fields=("report",), stages=("rollouts", "pairs", "evaluate")),
}  # fmt: skip
"""Every stage, in order."""


def fingerprints(recipe: Recipe) -> dict[str, str]:
    """A digest per stage of all that it depends on, contents of local files included."""
    values = recipe.model_dump(mode="json")
    found: dict[str, str] = {}
    for stage, needs in NEEDS.items():
        facts = {
            "fields": {field: _at(values, field) for field in needs.fields},
            "contents": {name: content(name) for name in _sources(recipe, needs)},
            "stages": [found[name] for name in needs.stages],
        }
        found[stage] = digest(facts)
    return found


def digest(facts: Any) -> str:
    """A short digest of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def changed_fields(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """Fields that differ and matter, with both values."""
    old, new = (_flat(recipe.model_dump(mode="json")) for recipe in (before, after))
    keys = [key for key in {**old, **new} if key not in FREE and old.get(key) != new.get(key)]
    return {key: (old.get(key), new.get(key)) for key in keys}


def _at(values: dict[str, Any], field: str) -> Any:
    found: Any = values
    for part in field.split("."):
        found = found[part]
    flat = _flat(found, field)
    return {key: value for key, value in flat.items() if key not in FREE}


def _flat(values: Any, where: str = "") -> dict[str, Any]:
    if not isinstance(values, dict) or (where and not values):
        return {where: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{where}.{key}" if where else key)
    return flat


def _sources(recipe: Recipe, needs: Needs) -> list[str]:
    """Local files and model folders that a stage reads by itself."""
    names: list[str] = []
    if "prompts" in needs.fields:
        names += [str(recipe.prompts.file or ""), recipe.teacher, recipe.student]
    if "pairs" in needs.fields:
        names += [recipe.pairs.reward_model or ""]
    if "evaluate" in needs.fields:
        names += [str(benchmark.file or "") for benchmark in recipe.evaluate.benchmarks]
    return [name for name in dict.fromkeys(names) if name]


def content(name: str) -> Any:
    """A digest of a local file or model folder; None for what is not on this disk.

    Large files are sampled at 32 places of 256 KiB besides their size.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return digest(
            [[one.name, _sampled(one)] for one in sorted(path.iterdir()) if one.is_file()]
        )
    return _sampled(path) if path.is_file() else None


def _sampled(path: Path) -> str:
    size, window, places = path.stat().st_size, 2**18, 32
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= window * places:
            found.update(file.read())
        for place in range(places if size > window * places else 0):
            file.seek(place * (size - window) // (places - 1))
            found.update(file.read(window))
    return found.hexdigest()[:16]
