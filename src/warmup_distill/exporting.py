"""Writing the pairs of a run in the formats of other programs.

They all take text and tokenize it again, and they put an end-of-sequence behind every completion.
So pairs of which a side was cut off are left out: their text would be taught to stop there. Pairs
in whose text a control token stands as text are left out too: no program would read it as text.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.models.exchange import holds_control, texts_to_encode
from warmup_distill.models.loading import load_tokenizer
from warmup_distill.recipe.reading import load_recipe
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.store.artifacts import parts_in, read_parts, write_json, write_text
from warmup_distill.store.leaves import PARTS, require_no_links
from warmup_distill.store.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A pair, and what else a row of another program may need."""

    pair: Pair
    text: str
    """Of the prompt, before any chat template."""
    system: str | None
    tokenizer: Any

    @property
    def holds_control(self) -> bool:
        """Whether a control token stands in a text as text."""
        texts = self.text, self.pair.chosen, self.pair.rejected
        return any(holds_control(self.tokenizer, text) for text in texts)


def _trl(one: Exported) -> dict[str, Any]:
    return texts_to_encode(one.tokenizer, one.pair)


def _openrlhf(one: Exported) -> dict[str, Any]:
    turns = [] if one.system is None else [{"role": "system", "content": one.system}]
    turns.append({"role": "user", "content": one.text})
    return {
        side: [*turns, {"role": "assistant", "content": text}]
        for side, text in (("chosen", one.pair.chosen), ("rejected", one.pair.rejected))
    }


def _llama_factory(one: Exported) -> dict[str, Any]:
    row = {
        "instruction": one.text,
        "input": "",
        "chosen": one.pair.chosen,
        "rejected": one.pair.rejected,
    }
    return row if one.system is None else row | {"system": one.system}


ROWS: dict[str, Callable[[Exported], dict[str, Any]]] = {
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
        The file, how many pairs are in it, and how many were left out.

    Raises:
        RunError: the folder has no pairs, or they are not as their stage left them.
        ModelError: the student's tokenizer is not there any more.
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
    rows = [ROWS[target](one) for one in _exported(folder, pairs) if not one.holds_control]
    where = folder / "export" / target
    if target == "llama-factory":
        path = where / "warmup_distill.json"
        write_json(path, rows)
        write_json(where / "dataset_info.json", _dataset_info(rows))
    else:
        path = where / "pairs.jsonl"
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path, len(rows), len(pairs) - len(rows)


def _exported(folder: Path, pairs: Sequence[Pair]) -> Iterator[Exported]:
    """The pairs that were not cut off."""
    recipe = load_recipe(folder / "recipe.yaml")
    tokenizer = load_tokenizer(recipe.student)
    texts = {prompt.prompt_id: prompt.text for prompt in read_parts(folder / "prompts", Prompt)}
    cut_off = set(_cut_off(folder))
    for pair in pairs:
        if pair.prompt_id not in texts:
            where = folder / "pairs"
            raise RunError(f"{where} has pairs of the prompt {pair.prompt_id!r}, which is missing.")
        if (pair.prompt_id, pair.sample_index) not in cut_off:
            yield Exported(
                pair=pair,
                text=texts[pair.prompt_id],
                system=recipe.prompts.system,
                tokenizer=tokenizer,
            )


def _dataset_info(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    columns = {
        "prompt": "instruction",
        "query": "input",
        "chosen": "chosen",
        "rejected": "rejected",
    }
    if rows and "system" in rows[0]:
        columns["system"] = "system"
    file = {"file_name": "warmup_distill.json", "ranking": True, "columns": columns}
    return {"warmup_distill": file}


def _cut_off(folder: Path) -> Iterator[tuple[str, int]]:
    for rollout in read_parts(folder / "rollouts", Rollout):
        if "length" in (rollout.finish_reason, rollout.continuation_finish_reason):
            yield rollout.prompt_id, rollout.sample_index
