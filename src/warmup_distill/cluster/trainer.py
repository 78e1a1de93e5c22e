"""Ray Train as it is set up here; imported only where Ray is there."""

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from warmup_distill.cluster.letters import Letters, News
from warmup_distill.cluster.saying import Said
from warmup_distill.recipe.cluster import ClusterSection


def trainer(
    run: Callable[[dict[str, Any]], None],
    given: dict[str, Any],
    letters: Letters,
    settings: ClusterSection,
    resources: Mapping[str, float],
) -> TorchTrainer:
    """Runs a function in a process on each worker, again and again until it ends well everywhere.

    Args:
        run: is called with `given`.
    """
    callbacks: list[Any] = [_Losses(letters)]
    on_gpus = resources["num_gpus"] > 0
    return _Trainer(
        run,
        train_loop_config=given,
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.num_workers,
            use_gpu=on_gpus,
            resources_per_worker={"CPU": resources["num_cpus"], "GPU": resources["num_gpus"]},
        ),
        run_config=RunConfig(
            name=f"{letters.folder.parent.name}-{uuid.uuid4().hex[:8]}",
            storage_path=str(letters.folder),
            failure_config=FailureConfig(max_failures=settings.max_failures),
            callbacks=callbacks,
        ),
    )


class _Trainer(TorchTrainer):
    def _create_default_callbacks(self) -> list[Any]:
        """Without the one that asks a dashboard for its leave, which takes 12 s where none is.

        It looks after workers whose controller died; ours end with the driver anyhow.
        """
        found = super()._create_default_callbacks()  # type: ignore[misc]
        return [one for one in found if type(one).__name__ != "PlacementGroupCleanerCallback"]


class _Losses(UserCallback):
    """Tells the driver of every worker that is lost; runs in the process that looks after them."""

    def __init__(self, letters: Letters) -> None:
        self._letters = letters
        self._told = News()

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """See `UserCallback`."""
        if self._letters.ended():  # it was no loss: one of them refused
            return
        for rank, error in sorted(worker_exceptions.items()):
            why = (str(error).strip() or repr(error)).splitlines()[-1].split(". ")[0]
            text = f"loss {1 + len(self._told.said)} in the training: worker {rank}: {why[:300]}"
            said = Said(logger=__name__, level=logging.WARNING, text=text)
            self._told = News(said=(*self._told.said, said))
        self._letters.tell("losses", self._told)
