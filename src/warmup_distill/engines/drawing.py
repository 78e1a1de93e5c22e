"""Completions of many prompts, drawn batch by batch; each batch is on disk before the next."""

import logging
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from warmup_distill.engines.progress import Progress
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import RunError
from warmup_distill.records import Completion
from warmup_distill.store.artifacts import (
    part_path,
    parts_in,
    read_notes,
    read_records,
    write_records,
)
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.removing import remove_empty, remove_files, sweep
from warmup_distill.store.stopping import leave_if_asked

logger = logging.getLogger(__name__)

QUESTION = "question"
"""The note in a part that says what was asked."""


def draw(
    engine: TransformersEngine,
    prompts: Sequence[list[int]],
    streams: Sequence[Sequence[int]],
    folder: Path,
    progress: Progress,
    *,
    model: Any,
    max_new_tokens: int,
    **decoding: Any,
) -> list[list[Completion]]:
    """Draw completions as `Engine.sample` does; those that are in the folder are not drawn again.

    Args:
        folder: for the parts, one per batch. Parts that answer another question are removed.
        progress: hears of `max_new_tokens` a completion; the engine tells it of those drawn.
        model: what tells the model that draws from others, such as a digest of its weights.

    Raises:
        Stopped: a signal asked for it; the batches drawn are kept.
    """
    tokens = engine.vocabulary
    known = [tokens.size, sorted(tokens.eos_ids), sorted(tokens.banned_ids)]
    question = [model, prompts, streams, known, max_new_tokens, decoding]
    notes = {QUESTION: digest(question)}
    found = _kept(folder, notes)
    for group in found.values():
        progress.advance(sum(len(one.completion_ids) for one in group))
        progress.settle(len(group) * max_new_tokens)
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
        progress.settle(sum(map(len, samples)) * max_new_tokens)
        found |= drawn
        leave_if_asked()
    return [found[number] for number in range(len(prompts))]


def forget(folders: Iterable[Path]) -> None:
    """Remove what was drawn into some folders, once it is of no more use."""
    for folder in folders:
        ours = [path for path in parts_in(folder) if QUESTION in read_notes(path)]
        remove_files(ours, above=folder)
        remove_empty([folder, folder.parent])


def _kept(folder: Path, notes: dict[str, str]) -> dict[int, list[Completion]]:
    """What earlier calls drew, by the number of the prompt."""
    found: dict[int, list[Completion]] = {}
    if folder.is_dir():
        sweep(folder)
    for path in parts_in(folder):
        theirs = read_notes(path)
        if QUESTION not in theirs:  # cut, or none that was drawn here: it does no harm
            continue
        try:
            drawn = read_records(path, Completion) if theirs == notes else []
        except RunError as error:
            logger.warning("%s", error)
            drawn = []
        if not drawn:
            remove_files([path], above=folder)
        for one in drawn:
            found.setdefault(one.prompt, []).append(one)
    return found
