"""Writing the pairs of a run in the formats of other programs.

They all take text and tokenize it again, and they put an end-of-sequence behind every completion.
So pairs of which a side was cut off are left out: their text would be taught to stop there.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.store.artifacts import parts_in, read_parts, write_json, write_text
from warmup_distill.store.leaves import PARTS, require_no_links
from warmup_distill.store.manifest import Manifest


def _trl(pair: Pair, prompt: Prompt) -> dict[str, Any]:
    return {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}


def _openrlhf(pair: Pair, prompt: Prompt) -> dict[str, Any]:
    question = {"role": "user", "content": prompt.text}
    return {
        side: [question, {"role": "assistant", "content": text}]
        for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }


def _llama_factory(pair: Pair, prompt: Prompt) -> dict[str, Any]:
    return {
        "instruction": prompt.text,
        "input": "",
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }


ROWS: dict[str, Callable[[Pair, Prompt], dict[str, Any]]] = {
    "trl": _trl,
    "openrlhf": _openrlhf,
    "llama-factory": _llama_factory,
}


def export_pairs(folder: Path, target: str) -> tuple[Path, int, int]:
    """Write export/<target>/ in a run directory.

    Args:
        folder: a run directory whose stage `pairs` is complete.
        target: a key of `ROWS`.

    Returns:
        The file, how many pairs are in it, and how many were left out because they were cut off.

    Raises:
        RunError: the folder has no pairs, or they are not as their stage left them.
    """
    require_no_links(folder, ["export"])
    Manifest(folder).require_intact(PARTS)
    there = parts_in(folder / "pairs")
    pairs = list(read_parts(folder / "pairs", Pair)) if there else []
    if not pairs:
        raise RunError(
            f"expected pairs in {folder / 'pairs'}, but there are none. Give a run directory, such "
            "as runs/quickstart, whose stage `pairs` is complete."
        )
    prompts = {prompt.prompt_id: prompt for prompt in read_parts(folder / "prompts", Prompt)}
    cut_off = set(_cut_off(folder))
    whole = [pair for pair in pairs if (pair.prompt_id, pair.sample_index) not in cut_off]
    unknown = next((pair.prompt_id for pair in whole if pair.prompt_id not in prompts), None)
    if unknown is not None:
        raise RunError(f"{folder / 'pairs'} has pairs of the prompt {unknown!r}, which is missing.")
    rows = [ROWS[target](pair, prompts[pair.prompt_id]) for pair in whole]
    where = folder / "export" / target
    if target == "llama-factory":
        path = where / "warmup_distill.json"
        write_json(path, rows)
        write_json(where / "dataset_info.json", _DATASET_INFO)
    else:
        path = where / "pairs.jsonl"
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path, len(whole), len(pairs) - len(whole)


_DATASET_INFO = {
    "warmup_distill": {
        "file_name": "warmup_distill.json",
        "ranking": True,
        "columns": {
            "prompt": "instruction",
            "query": "input",
            "chosen": "chosen",
            "rejected": "rejected",
        },
    }
}


def _cut_off(folder: Path) -> Iterator[tuple[str, int]]:
    for rollout in read_parts(folder / "rollouts", Rollout):
        if "length" in (rollout.finish_reason, rollout.continuation_finish_reason):
            yield rollout.prompt_id, rollout.sample_index
