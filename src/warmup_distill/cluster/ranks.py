"""A training on several workers: Ray Train starts one process on each, and all run the same body.

A body trains, and its first process saves to the run directory, which all machines must see. The
driver hears of the end through a file there, and asks the training to stop through another.
"""

import contextlib
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from warmup_distill.cluster.places import Body
from warmup_distill.cluster.remote import stand_in
from warmup_distill.errors import (
    DataError,
    ModelError,
    NumbersError,
    RecipeError,
    RunError,
    WarmupDistillError,
)
from warmup_distill.models.holding import Held
from warmup_distill.recipe.cluster import ClusterSection
from warmup_distill.store import stopping
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.stopping import Stopped, asked, leave_if_asked

LETTERS = "ranks"
"""Folder below a training's checkpoints with the two files."""
ENDED, STOP = "ended.json", "stop.json"
LOOK = 1.0
"""Seconds between two looks for a letter."""

REFUSALS: Mapping[str, type[Exception]] = {
    kind.__name__: kind for kind in (DataError, ModelError, NumbersError, RecipeError, RunError)
}


def train_on_ranks(
    ray: Any, settings: ClusterSection, resources: Mapping[str, float], body: Body, scratch: Path
) -> dict[str, Any]:
    """Run a body on every worker; returns what the first one counted.

    A worker that is lost ends them all; they start again at the newest whole checkpoint.

    Args:
        scratch: of the training, in the run directory.

    Raises:
        RunError: workers were lost more often than `max_failures`.
        Stopped: a signal asked for it; the last step is saved.
    """
    letters = (scratch / LETTERS).absolute()
    _forget(letters)
    letters.mkdir(parents=True)
    try:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(_trainer(settings, resources, body, letters).fit)
            while not wait([future], timeout=LOOK).done:
                if asked() is not None and not (letters / STOP).exists():
                    write_json(letters / STOP, {"signal": asked()})
            ended = read_json(letters / ENDED) if (letters / ENDED).exists() else {}
            if not ended:
                raise _lost(settings, future.exception())
    finally:
        _forget(letters)
    if "refused" in ended:
        raise REFUSALS[ended["refused"]](ended["why"])
    if "stopped" in ended:
        leave_if_asked()
        raise Stopped(ended["stopped"])
    counts: dict[str, Any] = ended["counts"]
    return counts


def _trainer(
    settings: ClusterSection, resources: Mapping[str, float], body: Body, letters: Path
) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    on_gpus = resources["num_gpus"] > 0
    return TorchTrainer(
        _rank,
        train_loop_config={"body": body, "letters": str(letters), "folder": str(Path.cwd())},
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.num_workers,
            use_gpu=on_gpus,
            resources_per_worker={"CPU": resources["num_cpus"], "GPU": resources["num_gpus"]},
        ),
        run_config=RunConfig(
            name=f"{letters.parent.name}-{uuid.uuid4().hex[:8]}",
            storage_path=str(letters),
            failure_config=FailureConfig(max_failures=settings.max_failures),
        ),
    )


def _rank(given: dict[str, Any]) -> None:
    """What runs in each process."""
    import ray.train

    stand_in(given["folder"])
    letters, first = Path(given["letters"]), ray.train.get_context().get_world_rank() == 0
    if (letters / ENDED).exists():  # all were started again after one of them refused
        return
    threading.Thread(target=_look_for_stop, args=(letters,), daemon=True).start()
    logging.getLogger("warmup_distill").setLevel(logging.INFO if first else logging.ERROR)
    try:
        ended: dict[str, Any] = {"counts": given["body"](Held())}
    except Stopped as stopped:
        ended = {"stopped": stopped.signal}
    except (WarmupDistillError, NumbersError) as error:
        # The others wait for this process in vain, so it has to end with an error.
        write_json(letters / ENDED, {"refused": type(error).__name__, "why": str(error)})
        raise
    if first:
        write_json(letters / ENDED, ended)


def _look_for_stop(letters: Path) -> None:
    while True:
        time.sleep(LOOK)
        if (letters / STOP).exists():
            stopping.ask(int(read_json(letters / STOP)["signal"]))
            return


def _lost(settings: ClusterSection, error: BaseException | None) -> RunError:
    said = str(error).strip().splitlines()[-1] if error and str(error).strip() else "no word"
    return RunError(
        f"the training was lost on its workers more often than cluster.max_failures "
        f"({settings.max_failures}): {said}. The newest checkpoint is kept; the same command goes "
        "on from there."
    )


def _forget(letters: Path) -> None:
    """Remove what only this file and Ray put there."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(letters)
