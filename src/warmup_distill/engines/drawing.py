"""Completions of many prompts, drawn batch by batch; each batch is on disk before the next."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.records import Completion
from warmup_distill.store.artifacts import part_path, read_notes, read_records, write_records
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.stopping import leave_if_asked


def draw(
    engine: TransformersEngine,
    prompts: Sequence[list[int]],
    streams: Sequence[Sequence[int]],
    folder: Path,
    *,
    model: Any,
    max_new_tokens: int,
    **decoding: Any,
) -> list[list[Completion]]:
    """Draw completions as `Engine.sample` does; those that are in the folder are not drawn again.

    Args:
        folder: for the parts, one per batch. Parts that answer another question are removed.
        model: what tells the model that draws from others, such as a digest of its weights.

    Raises:
        Stopped: a signal asked for it; the batches drawn are kept.
    """
    tokens = engine.vocabulary
    known = [tokens.size, sorted(tokens.eos_ids), sorted(tokens.banned_ids)]
    question = [model, prompts, streams, known, max_new_tokens, decoding]
    notes = {"question": digest(question)}
    found = _kept(folder, notes)
    engine.advance(sum(map(len, found.values())))
    waiting = [number for number in range(len(prompts)) if number not in found]
    widest = max(map(len, streams), default=1)
    free = (path for i in count() if not (path := part_path(folder, i)).exists())
    for batch in engine.batches([prompts[i] for i in waiting], widest, max_new_tokens):
        numbers = [waiting[i] for i in batch]
        samples = engine.sample(
            [prompts[i] for i in numbers],
            [streams[i] for i in numbers],
            max_new_tokens=max_new_tokens,
            **decoding,
        )
        drawn = {
            number: [
                Completion(prompt=number, completion_ids=one.ids, finish_reason=one.finish_reason)
                for one in group
            ]
            for number, group in zip(numbers, samples, strict=True)
        }
        write_records(
            next(free), Completion, [one for group in drawn.values() for one in group], notes
        )
        found |= drawn
        leave_if_asked()
    return [found[number] for number in range(len(prompts))]


def _kept(folder: Path, notes: dict[str, str]) -> dict[int, list[Completion]]:
    """What earlier calls drew, by the number of the prompt."""
    found: dict[int, list[Completion]] = {}
    for path in sorted(folder.glob("part-*.parquet")):
        if read_notes(path) != notes:
            path.unlink()
            continue
        for one in read_records(path, Completion):
            found.setdefault(one.prompt, []).append(one)
    return found
