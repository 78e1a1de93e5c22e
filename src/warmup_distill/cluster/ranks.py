"""A training on several workers: Ray Train starts one process on each, and all run the same body.

A body trains, and its first process saves to the run directory, which all machines must see. How
far it is, what it says, how it ends and whether it should, goes through letters there.
"""

import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from warmup_distill.cluster.letters import Letters, News
from warmup_distill.cluster.places import NOBODY, Body, StepMeter
from warmup_distill.cluster.remote import stand_in
from warmup_distill.cluster.saying import Speaker, ear
from warmup_distill.errors import (
    DataError,
    LostError,
    ModelError,
    NumbersError,
    RecipeError,
    RunError,
    WarmupDistillError,
)
from warmup_distill.models.holding import Held
from warmup_distill.recipe.cluster import ClusterSection
from warmup_distill.store import stopping
from warmup_distill.store.stopping import Stopped, asked, leave_if_asked

LETTERS = "ranks"
"""Folder below a training's checkpoints with its letters."""
LOOK = 1.0
"""Seconds between two looks for a letter."""

REFUSALS: Mapping[str, type[Exception]] = {
    kind.__name__: kind for kind in (DataError, ModelError, NumbersError, RecipeError, RunError)
}


def train_on_ranks(
    settings: ClusterSection, resources: Mapping[str, float], body: Body, scratch: Path,
    meter: StepMeter, speaker: Speaker,
) -> dict[str, Any]:  # fmt: skip
    """Run a body on every worker; returns what the first one counted.

    A worker that is lost ends them all; they start again at the newest whole checkpoint.

    Args:
        scratch: of the training, in the run directory.
        meter: hears how far the first process is.
        speaker: says what all of them say.

    Raises:
        LostError: workers were lost more often than `max_failures`.
        Stopped: a signal asked for it; the last step is saved.
    """
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # there, `print` means what it says
    from warmup_distill.cluster.trainer import trainer

    letters = Letters((scratch / LETTERS).absolute())
    with letters.kept():
        with ThreadPoolExecutor(1) as pool:
            given = {"body": body, "letters": letters, "folder": str(Path.cwd())}
            training = pool.submit(trainer(_rank, given, letters, settings, resources).fit)
            _attend(training, letters, meter, speaker)
        ended = letters.ended()
        if not ended:
            raise _lost(settings, training.exception())
    if "refused" in ended:
        raise REFUSALS[ended["refused"]](ended["why"])
    if "stopped" in ended:
        leave_if_asked()
        raise Stopped(ended["stopped"])
    counts: dict[str, Any] = ended["counts"]
    return counts


def _attend(training: Future[Any], letters: Letters, meter: StepMeter, speaker: Speaker) -> None:
    """Until the training is over, pass on what its processes tell, and a signal to them."""
    over = False
    while not over:
        over = bool(wait([training], timeout=LOOK).done)
        signal = asked()
        if signal is not None:
            letters.ask_to_stop(signal)
        for news in letters.news():
            speaker.say(news.said)
            if news.steps:
                meter.reached(news.step, news.steps, news.loss)


def _rank(given: dict[str, Any]) -> None:
    """What runs in each process."""
    import ray.train

    stand_in(given["folder"])
    letters: Letters = given["letters"]
    if letters.ended():  # all were started again after one of them refused
        return
    rank = ray.train.get_context().get_world_rank()
    teller = _Teller(letters, rank)
    try:
        ended = _ended(given["body"], NOBODY if rank else teller)
    except (WarmupDistillError, NumbersError) as error:
        # The others wait for this process in vain, so it has to end with an error.
        letters.end({"refused": type(error).__name__, "why": str(error)})
        raise
    finally:
        teller.tell()
    if rank == 0:
        letters.end(ended)


def _ended(body: Body, meter: StepMeter) -> dict[str, Any]:
    try:
        return {"counts": body(Held(), meter)}
    except Stopped as stopped:
        return {"stopped": stopped.signal}


class _Teller:
    """Tells the driver every other moment how far this process is, and hears whether to stop."""

    def __init__(self, letters: Letters, rank: int) -> None:
        self._letters, self._rank = letters, rank
        self._reached: tuple[int, int, float | None] = (0, 0, None)
        self._told = News()
        self._telling = threading.Lock()
        threading.Thread(target=self._correspond, daemon=True).start()

    def reached(self, step: int, steps: int, loss: float | None) -> None:
        """See `StepMeter`."""
        self._reached = step, steps, loss

    def tell(self) -> None:
        """Write what is new, if anything is."""
        with self._telling:
            step, steps, loss = self._reached
            said = self._told.said + ear().take()
            news = News(step=step, steps=steps, loss=loss, said=said)
            if news != self._told:
                self._letters.tell(str(self._rank), news)
                self._told = news

    def _correspond(self) -> None:
        while True:
            time.sleep(LOOK)
            self.tell()
            signal = self._letters.asked_to_stop()
            if signal is not None:
                stopping.ask(signal)


def _lost(settings: ClusterSection, error: BaseException | None) -> LostError:
    said = str(error).strip().splitlines()[-1] if error and str(error).strip() else "no word"
    return LostError(
        f"the training was lost on its workers more often than cluster.max_failures "
        f"({settings.max_failures}): {said}. The newest checkpoint is kept; the same command goes "
        "on from there."
    )
