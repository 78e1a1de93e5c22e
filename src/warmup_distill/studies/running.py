"""Running a study: one run after the other, and what two of them share made once.

STUDY/
  runs/<setting and seed>/   each a run directory like any other
  study.json                 says that the folder is a study's, and of which recipes
  failures.json              runs that ended with a message, and the message
  index.html, …              what has come of it, written anew after each run; see `page`
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from warmup_distill.cluster.choosing import place_of
from warmup_distill.cluster.places import Place
from warmup_distill.errors import NumbersError, ShortOfMemoryError, WarmupDistillError
from warmup_distill.pipeline import opened, run_stage
from warmup_distill.store.artifacts import write_json
from warmup_distill.store.claiming import claim
from warmup_distill.store.fingerprints import meaning
from warmup_distill.store.locking import locked
from warmup_distill.studies.page import Showing
from warmup_distill.studies.settings import Run, Study

logger = logging.getLogger(__name__)

RUNS, FAILURES, MARKER = "runs", "failures.json", "study.json"


def run_study(study: Study, folder: Path) -> dict[str, str]:
    """Run what is not complete yet, and show what is; returns what each run said that failed.

    Raises:
        RunError: the folder is held by another process, or holds something else.
        Stopped: a signal asked for it; the same call goes on.
    """
    with locked(folder), place_of(study.runs[0].recipe.cluster) as place:
        claim(folder, MARKER, {run.name: meaning(run.recipe) for run in study.runs})
        showing = Showing(study=study, folder=folder, runs_in=folder / RUNS)
        failures = run_all(study, folder, place, showing.write)
        showing.write(failures)
        return failures


def run_all(
    study: Study, folder: Path, place: Place, after: Callable[[Mapping[str, str]], object]
) -> dict[str, str]:
    """Run what is not complete yet.

    Args:
        folder: of the study, which is held.
        place: where parts of all runs are computed.
        after: called with what failed so far, whenever a run has ended, well or not.

    Returns:
        What each run said that failed, by its name.

    Raises:
        Stopped: a signal asked for it.
    """
    failures: dict[str, str] = {}
    for number, run in enumerate(study.runs, start=1):
        logger.info("run %d of %d: %s", number, len(study.runs), run.name)
        try:
            _run(run, study.runs, folder, place)
        except (WarmupDistillError, NumbersError, ShortOfMemoryError) as error:
            failures[run.name] = str(error)
            logger.warning("%s failed, and the study goes on without it: %s", run.name, error)
        write_json(folder / FAILURES, failures)
        after(failures)
    return failures


def folder_of(folder: Path, run: Run) -> Path:
    """The run directory of one run."""
    return folder / RUNS / run.name


def _run(run: Run, runs: Sequence[Run], folder: Path, place: Place) -> None:
    others = [folder_of(folder, one) for one in _alike(run, runs)]
    there = [one for one in others if one.is_dir()]
    with opened(run.recipe, folder_of(folder, run), place=place, others=there) as session:
        for stage in run.stages:
            run_stage(session, stage)


def _alike(run: Run, runs: Sequence[Run]) -> list[Run]:
    """All other runs, of the same seed first, and of those first that differ in the fewest."""
    others = [one for one in runs if one.name != run.name]
    return sorted(others, key=lambda one: (one.seed != run.seed, _differences(run, one)))


def _differences(run: Run, other: Run) -> int:
    return sum(run.setting.get(name) != value for name, value in other.setting.items())
