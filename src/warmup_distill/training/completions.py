"""On-policy data: batches whose completions the student draws itself, for a share of the passes."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from warmup_distill.engines.randomness import keys_of, stream, uniforms
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.ledger.counting import of_drawn, of_row
from warmup_distill.ledger.ran import Ran
from warmup_distill.recipe.distillation import AdaptiveSection
from warmup_distill.training.ranks import of_first
from warmup_distill.tree.pack import batches_by_size, pack_completions
from warmup_distill.tree.packed import PackedModel

TOKENS_AT_ONCE = 4096
Row = tuple[list[int], list[int]]
"""Ids of a prompt and of its completion."""


@dataclass(frozen=True, kw_only=True)
class StudentShare:
    """How often a pass runs on completions that the student draws at that moment."""

    share: float = 0.0
    """λ of GKD (Agarwal et al. 2024, arXiv:2306.13649, algorithm 1)."""
    adaptive: AdaptiveSection | None = None
    """DistiLLM's schedule, which takes the place of `share`."""
    validation: Sequence[Row] = ()
    """Held-out references whose loss moves the adaptive share."""
    max_new_tokens: int = 256
    temperature: float = 1.0
    seed: int = 0


@dataclass(kw_only=True)
class AdaptiveShare:
    """φ of DistiLLM, which rises with the validation loss, and its replay buffer."""

    section: AdaptiveSection
    share: float = field(init=False)
    buffer: deque[Row] = field(init=False)
    _mark: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.share = self.section.start
        self.buffer = deque(maxlen=self.section.capacity)

    def validated(self, loss: float) -> None:
        """Take a validation loss; the first one, and each that raises φ, is the next mark."""
        if self._mark is None:
            self._mark = loss
        elif loss >= self._mark + self.section.tolerance:
            self.share = min(1.0, self.share + self.section.increase)
            self._mark = loss

    def state(self) -> dict[str, Any]:
        """What to give to `restore` to go on from here."""
        return {"share": self.share, "mark": self._mark, "buffer": list(self.buffer)}

    def restore(self, state: dict[str, Any]) -> None:
        self.share, self._mark = state["share"], state["mark"]
        self.buffer.extend((prompt, completion) for prompt, completion in state["buffer"])

    def fresh_share(self, progress: float) -> float:
        """Share of passes that draw anew; up to φ the buffer serves, if it is full."""
        if len(self.buffer) < self.section.capacity:
            return self.share
        kept = {"decreasing": 1 - progress, "constant": 0.5, "increasing": progress}
        return self.share * kept[self.section.replay]


class StudentCompletions:
    """Puts the student's own completions into batches.

    Args:
        student: being trained.
        settings: how often, and how they are drawn.
        process: number of this process, which draws numbers of its own.
        to_the_end: see `pack_completions`.
        ran: told of what the student draws and scores.
    """

    def __init__(
        self,
        student: PackedModel,
        settings: StudentShare,
        process: int = 0,
        *,
        to_the_end: bool = False,
        ran: Ran | None = None,
    ) -> None:
        self.student = student
        self.ran = ran or Ran()
        self.to_the_end = to_the_end
        self.settings = settings
        self.process = process
        self.engine = TransformersEngine(
            student.model, student.model, student.vocabulary, TOKENS_AT_ONCE * 8
        )
        self.adaptive = AdaptiveShare(section=settings.adaptive) if settings.adaptive else None

    @property
    def share(self) -> float:
        """The share of passes on the student's completions at this moment."""
        return self.adaptive.share if self.adaptive else self.settings.share

    def of_step(
        self, batches: Sequence[dict[str, Tensor]], step: int, progress: float
    ) -> list[dict[str, Tensor]]:
        """The batches of one optimizer step, some of them with other completions.

        Args:
            batches: made by `collate_completions`, or empty.
            step: optimizer steps done; with the seed it names the random numbers.
            progress: share of all steps that is done.
        """
        section = self.settings.adaptive
        if self.adaptive and section and step % section.validation_steps == 0:
            self.adaptive.validated(of_first(self._validation_loss))
        return [
            self._choose(batch, (step, number), progress) if batch else batch
            for number, batch in enumerate(batches)
        ]

    def _validation_loss(self) -> float:
        for prompt, completion in self.settings.validation:
            self.ran.add(scored=of_row(len(prompt), len(completion)))
        return mean_cross_entropy(self.student, self.settings.validation)

    def _choose(
        self, batch: dict[str, Tensor], place: tuple[int, int], progress: float
    ) -> dict[str, Tensor]:
        chance = self._number("share", place)
        if chance >= self.share:
            return batch
        if self.adaptive and chance >= self.adaptive.fresh_share(progress):
            rows = self._replayed(len(batch["lengths"]), place)
        else:
            rows = self._drawn(batch, place)
            if self.adaptive:
                self.adaptive.buffer.extend(rows)
        columns = (list(column) for column in zip(*rows, strict=True))
        packed = pack_completions(*columns, to_the_end=self.to_the_end)
        return {name: values.to(batch["input_ids"].device) for name, values in packed.items()}

    def _drawn(self, batch: dict[str, Tensor], place: tuple[int, int]) -> list[Row]:
        prompts = prompts_of(batch)
        streams = [[self._stream("completion", place, i)] for i in range(len(prompts))]
        samples = self.engine.sample(
            prompts,
            streams,
            max_new_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature,
        )
        self.engine.forget()  # the training step needs the room
        for prompt, (one,) in zip(prompts, samples, strict=True):
            self.ran.add(drawn=of_drawn(len(prompt), [len(one.ids)]))
        return [(prompt, drawn.ids) for prompt, (drawn,) in zip(prompts, samples, strict=True)]

    def _replayed(self, count: int, place: tuple[int, int]) -> list[Row]:
        assert self.adaptive is not None
        buffer = self.adaptive.buffer
        numbers = (self._number("replay", (*place, i)) for i in range(count))
        return [buffer[int(number * len(buffer))] for number in numbers]

    def _stream(self, role: str, place: tuple[int, ...], index: int = 0) -> int:
        return stream(self.settings.seed, "on-policy", role, self.process, place, index)

    def _number(self, role: str, place: tuple[int, ...]) -> float:
        return float(uniforms(keys_of([self._stream(role, place)]), 0))


def prompts_of(batch: dict[str, Tensor]) -> list[list[int]]:
    """The prompts of a packed batch."""
    rows = torch.split(batch["input_ids"], batch["lengths"].tolist())
    sizes = batch["prompt_lengths"].tolist()
    return [row[:size].tolist() for row, size in zip(rows, sizes, strict=True)]


@torch.inference_mode()
def mean_cross_entropy(model: PackedModel, rows: Sequence[Row]) -> float:
    """−log q per completion token, in nats, over rows of prompt and completion."""
    total, count = 0.0, 0
    sizes = [len(prompt) + len(completion) for prompt, completion in rows]
    with model.following():
        for batch in batches_by_size(sizes, TOKENS_AT_ONCE):
            columns = zip(*(rows[i] for i in batch), strict=True)
            hidden, targets = model.completion_hidden(*columns)
            total -= float(model.logprobs(hidden, targets).double().sum())
            count += len(targets)
    return total / count
