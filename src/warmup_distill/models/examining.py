"""A model looked at before a library reads it: its files, and the numbers in its configuration.

Libraries build what a configuration names, layer by layer, before they look at the weights.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from warmup_distill.errors import ModelError
from warmup_distill.foreign.reading import read_text, stays_inside, what_is_at
from warmup_distill.foreign.showing import brief

LARGEST_TEXT = 2**28
"""Bytes of a file that is read as a whole; the largest tokenizers have some 40 million."""
MOST: dict[str, int] = {"layer": 1_000, "head": 2**16, "expert": 2**16, "vocab": 2**24,
                        "hidden_size": 2**20, "embd": 2**20, "d_model": 2**20,
                        "intermediate": 2**20}  # fmt: skip
"""The largest number that a field with such a word in its name may hold."""
LARGEST = 2**31 - 1
"""Of any other."""
AT_LEAST_ONE = frozenset({
    "hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer", "n_layers",
    "num_attention_heads", "num_key_value_heads", "n_head", "n_heads", "vocab_size",
})  # fmt: skip


def examine(where: str) -> None:
    """Look at a model folder or a model of the hub.

    Raises:
        ModelError: a file is none that can be read to its end, or names one outside of the folder;
            or the configuration asks for more than any model has.
    """
    folder = Path(where)
    if not folder.is_dir():
        require_sane_numbers(_hub_config(where), f"config.json of {where}")
        return
    for path in folder.iterdir():
        _require_readable(path)
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} holds adapters, which name the model that they belong to. Merge them into "
            "it with peft's `merge_and_unload` and save the result."
        )
    if (folder / "config.json").exists():
        config = folder / "config.json"
        _require_inside(config, _mapping(config).get("configuration_files") or [])
        require_sane_numbers(PretrainedConfig.get_config_dict(where)[0], str(config))
    for index in folder.glob("*.index.json"):
        _require_inside(index, (_mapping(index).get("weight_map") or {}).values())


@functools.lru_cache
def _hub_config(name: str) -> dict[str, Any]:
    values: dict[str, Any] = PretrainedConfig.get_config_dict(name)[0]
    return values


def _require_readable(path: Path) -> None:
    found = what_is_at(path)
    if found == "no ordinary file":
        raise ModelError(f"{path} is no ordinary file, so it may not end. Remove it.")
    is_text = path.suffix in (".json", ".jinja", ".txt", ".model")
    if found == "a file" and is_text and path.stat().st_size > LARGEST_TEXT:
        raise ModelError(f"{path} has more than {LARGEST_TEXT:,} bytes, which no model needs.")


def _require_inside(path: Path, names: Iterable[Any]) -> None:
    """What a file names is beside it."""
    for name in dict.fromkeys(map(str, names)):
        if not stays_inside(name):
            raise ModelError(f"{path}: expected files of its own folder, got {brief(name)}.")


def require_sane_numbers(values: dict[str, Any], where: str) -> None:
    """Raise a ModelError if a configuration, or one inside of it, has a number that none has."""
    for key, value in values.items():
        if isinstance(value, dict):
            require_sane_numbers(value, f"{where}: {key}")
        elif isinstance(value, int) and not isinstance(value, bool):
            lowest = 1 if key in AT_LEAST_ONE else -LARGEST
            highest = next((most for word, most in MOST.items() if word in key), LARGEST)
            if not lowest <= value <= highest:
                span = f"from {lowest} to {highest:,}" if lowest == 1 else f"up to {highest:,}"
                raise ModelError(f"{where}: expected {key} {span}, got {brief(value)}.")


def _mapping(path: Path) -> dict[str, Any]:
    found = json.loads(read_text(path, ModelError, f"{path} cannot be read", most=LARGEST_TEXT))
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a mapping, got {brief(found)}.")
    return found
