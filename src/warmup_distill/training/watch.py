"""The warm-up examines itself: held-out prompts, asked again and again with the same numbers.

A DPO loss can fall nicely while the student is destroyed. What counts is whether its own samples
come nearer to the teacher, so that is measured, the best point is kept, and a warm-up that leads
away from the teacher is stopped.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import RunError
from warmup_distill.ledger.counting import of_drawn, of_row
from warmup_distill.recipe.training import WatchSection
from warmup_distill.records import Prompt
from warmup_distill.scoring.agreement import Agreement, agreement, measure_distances
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.hashing import facts
from warmup_distill.store.removing import remove_files
from warmup_distill.store.stopping import asked
from warmup_distill.store.writing import replacing
from warmup_distill.training.ranks import is_first, of_first, wait_for_all

logger = logging.getLogger(__name__)

WATCHED = "watch.json"
"""In a checkpoint: what was examined until then."""

CLEARLY = 1.1
"""By what factor an earlier point must be nearer to the teacher to be kept instead of the last."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the watch needs besides the trainer."""

    section: WatchSection
    prompts: Sequence[Prompt]
    """Held out: no pair of theirs is trained on."""
    teacher: PreTrainedModel
    margin_threshold: float
    max_new_tokens: int
    batch_tokens: int
    seed: int
    bounds: Mapping[int, float] = field(default_factory=dict)
    """KL(student ‖ teacher) by step, above which the warm-up is given up."""


def hold_out(
    section: WatchSection, prompts: Sequence[Prompt], rolled_out: int | None
) -> Sequence[Prompt]:
    """Prompts to examine the student on, of all and the first of them that are rolled out."""
    spare = len(prompts) - len(prompts[:rolled_out])
    count = min(section.prompts, spare or len(prompts) // 10)
    return prompts[len(prompts) - count :]


def nearest(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """The examination with the smallest distance from the teacher, the first of equal ones."""
    return min(history, key=lambda one: one["watch_kl"])


def kept(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """The examination whose weights a warm-up keeps: the last one, unless an earlier one found the
    policy clearly nearer.

    A few dozen prompts tell small differences from chance no better, and the end of a schedule is
    where it should be best.
    """
    best = nearest(history)
    return history[-1] if history[-1]["watch_kl"] <= CLEARLY * best["watch_kl"] else best


class Watch(TrainerCallback):
    """Examines the policy every so many steps; keeps the best point, and stops what leads away.

    Args:
        trainer: of the warm-up.
        given: prompts and teacher.
        folder: where the best weights are while the training lasts.
    """

    def __init__(self, trainer: Any, given: Watched, folder: Path) -> None:
        self.trainer = trainer
        self.given = given
        self.folder = folder
        model = trainer.policy.model
        self.engine = TransformersEngine(
            model, given.teacher, trainer.vocabulary, given.batch_tokens
        )
        self.history: list[dict[str, float]] = []

    @property
    def best(self) -> dict[str, float]:
        """The examination whose weights are kept."""
        return kept(self.history)

    @property
    def nearest(self) -> dict[str, float]:
        """The examination with the smallest distance from the teacher."""
        return nearest(self.history)

    def recall(self, checkpoint: Path) -> None:
        """Take up what was examined up to a checkpoint that is whole.

        Raises:
            RunError: the best weights of that time are not there any more.
        """
        known = read_json(checkpoint / WATCHED)
        self.history = known["history"]
        found = self._best_file(self.nearest)
        if not found.is_file() or facts(found) != known["nearest"]:
            raise RunError(
                f"{found} is missing or has changed, and with it the best weights so far. Put back "
                f"a copy of it, or remove {self.folder} to train from the start."
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not is_first():
            return
        checkpoint = self.folder / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        nearest = facts(self._best_file(self.nearest))
        write_json(checkpoint / WATCHED, {"history": self.history, "nearest": nearest})

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.history:
            self._examine(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step
        if step % self.given.section.steps and step != state.max_steps:
            return
        if self.history[-1]["step"] < step:
            self._examine(step)
        if self.is_given_up():
            logger.info("warmup: given up after step %d: others were nearer by then", step)
            control.should_save = control.should_training_stop = True
        elif self.leads_away():
            logger.warning(
                "warmup: stopped after step %d: on held-out prompts the student is further from "
                "its teacher than it came, %d times in a row. Its best point is kept (step %d). "
                "Lower warmup.learning_rate or raise warmup.beta.",
                step, self.given.section.patience, self.best["step"],
            )  # fmt: skip
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if asked() is None:
            self.keep_best()

    def keep_best(self) -> None:
        """Put the weights of the best point into the model, and say so if it is the first."""
        if self.best["step"] == 0:
            logger.warning(
                "warmup: at every step that was examined the student was further from its teacher "
                "than it came, so it is kept as it came. Lower warmup.learning_rate or raise "
                "warmup.beta."
            )
        if self.best["step"] != self.history[-1]["step"]:
            weights = load_file(self._best_file(self.best))
            self.trainer.model.load_state_dict(weights, strict=False)

    def _best_file(self, examined: dict[str, float]) -> Path:
        return self.folder / f"best-{int(examined['step'])}.safetensors"

    def counts(self) -> dict[str, int]:
        """For the manifest: where the best point was, and whether the training was stopped."""
        return {"best_step": int(self.best["step"]), "stopped": int(self.leads_away())} | (
            {"given_up": 1} if self.is_given_up() else {}
        )

    def is_given_up(self) -> bool:
        """Whether the last examination found it beyond its bound."""
        bound = self.given.bounds.get(int(self.history[-1]["step"]), math.inf)
        return self.nearest["watch_kl"] > bound

    def leads_away(self) -> bool:
        """Further from the teacher than at the start, so many times in a row."""
        start, later = self.history[0], self.history[1:][-self.given.section.patience :]
        worse = [
            one["watch_kl"] > start["watch_kl"] and one["watch_mismatch"] > start["watch_mismatch"]
            for one in later
        ]
        return len(worse) == self.given.section.patience and all(worse)

    def _examine(self, step: int) -> None:
        found = of_first(self._agreement)  # the others wait, and so all of them decide alike
        self.history.append(
            {"step": step, "watch_mismatch": found.mismatch_share, "watch_kl": found.reverse_kl}
        )
        if self.nearest["step"] == step and is_first():
            state = self.trainer.model.state_dict()
            kept = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            with replacing(self._best_file(self.nearest)) as temporary:
                save_file(kept, temporary)
            self._forget_others()
        wait_for_all()

    def _forget_others(self) -> None:
        """Remove weights that are nearest at no checkpoint that is there, and not now."""
        found = self.folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        ends = [int(path.name.rpartition("-")[2]) for path in found]
        until = [[one for one in self.history if one["step"] <= end] for end in ends]
        needed = [nearest(some) for some in (*until, self.history) if some]
        others = [self._best_file(one) for one in self.history if one not in needed]
        remove_files(others, above=self.folder)

    def _agreement(self) -> Agreement:
        given = self.given
        ids = [prompt.prompt_ids for prompt in given.prompts]
        samples = self.engine.sample(
            ids,
            [[stream(given.seed, "watch", prompt.prompt_id)] for prompt in given.prompts],
            max_new_tokens=given.max_new_tokens,
            temperature=1.0,
        )
        self.engine.forget()
        for prompt, (one,) in zip(ids, samples, strict=True):
            row = of_row(len(prompt), len(one.ids))
            drawn = of_drawn(len(prompt), [len(one.ids)])
            self.trainer.ran.add(drawn=drawn, scored=row, taught=row)
        distances = measure_distances(
            self.engine.student,
            self.engine.teacher,
            ids,
            [sample.ids for (sample,) in samples],
            margin_threshold=given.margin_threshold,
            batch_tokens=given.batch_tokens,
        )
        return agreement(distances)
