"""Completions of many prompts, drawn batch by batch; each is on disk as soon as it is drawn."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from warmup_distill.cluster.places import Meter, Place
from warmup_distill.engines import Engine
from warmup_distill.engines.batching import Batching
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.engines.vllm import VllmEngine
from warmup_distill.engines.wire import Address
from warmup_distill.errors import RunError
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Completion, Sample
from warmup_distill.store.artifacts import (
    part_path,
    parts_in,
    read_notes,
    read_records,
    write_records,
)
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.removing import remove_empty, remove_files, sweep
from warmup_distill.tree.pack import batches_by_size

logger = logging.getLogger(__name__)

QUESTION = "question"
"""The note in a part that says what was asked."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Completions that are wanted of a model."""

    model: ModelRef
    vocabulary: Vocabulary
    prompts: Sequence[list[int]]
    streams: Sequence[Sequence[int]]
    """For each prompt the keys of its completions' random streams."""
    max_new_tokens: int
    temperature: float
    no_repeat_ngram_size: int | None = None
    batch_tokens: int
    server: Address | None = None
    """Of vLLM, which holds the model; in process if absent."""

    @property
    def most_tokens(self) -> int:
        """Tokens of all its completions at the most."""
        return sum(map(len, self.streams)) * self.max_new_tokens

    def batches(self) -> list[list[int]]:
        """Which prompts, by number, are drawn together; it is the same however often one asks."""
        widest = max(map(len, self.streams), default=1)
        sizes = [len(prompt) + widest * self.max_new_tokens for prompt in self.prompts]
        return batches_by_size(sizes, self.batch_tokens)

    def of(self, numbers: Sequence[int]) -> "Drawing":
        """The same for some of the prompts."""
        return replace(
            self,
            prompts=[self.prompts[i] for i in numbers],
            streams=[self.streams[i] for i in numbers],
        )

    def notes(self) -> dict[str, str]:
        """What its parts are known by."""
        tokens = self.vocabulary
        known = [tokens.size, sorted(tokens.eos_ids), sorted(tokens.banned_ids)]
        decoding = [self.temperature, self.no_repeat_ngram_size]
        model = [self.model.identity, self.model.dtype]
        asked = [model, self.prompts, self.streams, known, self.max_new_tokens, decoding]
        asked += ["vllm"] if self.server else []
        return {QUESTION: digest(asked)}


@dataclass(frozen=True)
class Sampling:
    """A task: draw one batch."""

    def __call__(self, item: Drawing, held: Held, meter: Meter) -> list[list[Sample]]:
        drawn = _engine(item, held, meter).sample(
            item.prompts,
            item.streams,
            max_new_tokens=item.max_new_tokens,
            temperature=item.temperature,
            no_repeat_ngram_size=item.no_repeat_ngram_size,
        )
        meter.settle(item.most_tokens)
        return drawn


def _engine(item: Drawing, held: Held, meter: Meter) -> Engine:
    if item.server:
        held.take()
        return VllmEngine(item.server, item.server, item.vocabulary, meter.advance)
    (model,) = held.take(item.model)
    return TransformersEngine(model, model, item.vocabulary, item.batch_tokens, meter.advance)


def draw(
    place: Place, wanted: Sequence[Drawing], folders: Sequence[Path], meter: Meter
) -> list[list[list[Completion]]]:
    """For each drawing, for each of its prompts, its completions; see `draw_each`."""
    found = dict(draw_each(place, wanted, folders, meter))
    return [found[number] for number in range(len(wanted))]


def draw_each(
    place: Place, wanted: Sequence[Drawing], folders: Sequence[Path], meter: Meter
) -> Iterator[tuple[int, list[list[Completion]]]]:
    """Draw completions as `Engine.sample` does; those that are in the folders are not drawn again.

    Args:
        folders: for the parts of each drawing. Parts that answer another question are removed.
        meter: hears of every token drawn.

    Returns:
        The number of each drawing, with the completions of each of its prompts, as soon as all of
        them are there.

    Raises:
        Stopped: a signal asked for it; the batches drawn are kept.
    """
    found: list[dict[int, list[Completion]]] = []
    waiting: list[tuple[int, list[int]]] = []
    notes = [one.notes() for one in wanted]
    for number, (one, folder) in enumerate(zip(wanted, folders, strict=True)):
        kept = _kept(folder, notes[number])
        for group in kept.values():
            meter.advance(sum(len(completion.completion_ids) for completion in group))
            meter.settle(len(group) * one.max_new_tokens)
        found.append(kept)
        rest = ([i for i in batch if i not in kept] for batch in one.batches())
        waiting += [(number, batch) for batch in rest if batch]
    still = Counter(number for number, _ in waiting)
    yield from ((n, _in_order(kept)) for n, kept in enumerate(found) if not still[n])
    items = [wanted[number].of(batch) for number, batch in waiting]
    for place_in_line, samples in place.compute(Sampling(), items, meter):
        number, batch = waiting[place_in_line]
        drawn = {
            prompt: [
                Completion(prompt=prompt, completion_ids=one.ids, finish_reason=one.finish_reason)
                for one in group
            ]
            for prompt, group in zip(batch, samples, strict=True)
        }
        flat = [one for group in drawn.values() for one in group]
        write_records(_free(folders[number]), Completion, flat, notes[number])
        found[number] |= drawn
        still[number] -= 1
        if not still[number]:
            yield number, _in_order(found[number])


def _in_order(kept: dict[int, list[Completion]]) -> list[list[Completion]]:
    return [kept[prompt] for prompt in range(len(kept))]


def draw_fitting(
    place: Place, wanted: Drawing, folder: Path, meter: Meter, batching: Batching
) -> list[list[Completion]]:
    """As `draw`, of one drawing and with the tokens at once of some work, halved if need be."""

    def drawing(batch_tokens: int, meter: Meter) -> list[list[Completion]]:
        (drawn,) = draw(place, [replace(wanted, batch_tokens=batch_tokens)], [folder], meter)
        return drawn

    return batching.run(drawing, meter)


def _free(folder: Path) -> Path:
    """The first name of a part that nothing has."""
    return next(path for i in count() if not (path := part_path(folder, i)).exists())


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
