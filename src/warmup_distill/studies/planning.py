"""The plan of a study: its runs, what they share, what is wrong with any, and how long it takes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from warmup_distill.foreign.showing import clean
from warmup_distill.page.words import count, duration
from warmup_distill.planning.facts import Facts, gather
from warmup_distill.planning.measuring import Measured, measure
from warmup_distill.planning.work import totals
from warmup_distill.recipe.controls import models_of
from warmup_distill.stages.session import Session
from warmup_distill.studies.results import entries_of, is_done
from warmup_distill.studies.running import folder_of
from warmup_distill.studies.settings import Run, Study
from warmup_distill.studies.summary import grouped


def plan_study(study: Study, folder: Path, *, measured: bool) -> tuple[str, list[str]]:
    """Check every setting of a study without loading weights.

    Args:
        measured: load those of the first run after all, and time a few seconds of the real work.

    Returns:
        The page, and everything that is wrong.
    """
    groups = grouped(study.runs)
    sessions = {run.name: Session(folder_of(folder, run), run.recipe) for run in study.runs}
    facts = {some[0].name: gather(sessions[some[0].name]) for some in groups}
    problems = [f"{name}: {problem}" for name, found in facts.items() for problem in found.problems]
    lines = [f"plan for the study {study.name} in {folder}", "", _runs(study, groups, folder)]
    lines += [_stages(study, sessions)]
    first = study.runs[0]
    if measured and not problems:
        found = facts[first.name].attempt(
            lambda: measure(first.recipe, folder_of(folder, first), facts[first.name])
        )
        lines += [_time(groups, sessions, facts, found)] if found else []
    elif not measured:
        lines.append("time       add --measure: loads the weights and times a few prompts")
    if problems:
        lines += ["", "what is wrong:", *(f"  - {clean(one)}" for one in problems)]
    return "\n".join(lines), problems


def _runs(study: Study, groups: Sequence[Sequence[Run]], folder: Path) -> str:
    done = sum(is_done(run, entries_of(folder_of(folder, run))) for run in study.runs)
    seeds = len({run.seed for run in study.runs})
    return (
        f"runs       {count(len(study.runs))}: {_many(len(groups), 'setting')} times "
        f"{_many(seeds, 'seed')}; {count(done)} complete"
    )


def _stages(study: Study, sessions: dict[str, Session]) -> str:
    """How often each stage is made, and how often it would be if nothing were shared."""
    times: dict[str, int] = {}
    made: dict[str, set[str]] = {}
    for run in study.runs:
        for stage in run.stages:
            times[stage] = times.get(stage, 0) + 1
            made.setdefault(stage, set()).add(sessions[run.name].fingerprints[stage])
    counted = (
        f"{stage} {count(len(made[stage]))}" if len(made[stage]) == times[stage]
        else f"{stage} {count(len(made[stage]))} for {count(times[stage])}"
        for stage in times if stage not in ("evaluate", "report")
    )  # fmt: skip
    return f"stages     {', '.join(counted)}; models that are the same are evaluated once"


def _time(
    groups: Sequence[Sequence[Run]],
    sessions: dict[str, Session],
    facts: dict[str, Facts],
    found: Measured,
) -> str:
    spent: dict[str, float] = {}
    for some in groups:
        each = totals(some[0].recipe, facts[some[0].name], found.costs, found.lengths)
        for run in some:
            spent |= dict(_priced(run, sessions[run.name], each))
    return f"time       about {duration(sum(spent.values()))}, by what the first run measured"


def _priced(run: Run, session: Session, each: dict[str, float]) -> Iterator[tuple[str, float]]:
    """What is made for a run, by what it depends on, and the seconds that it takes."""
    prints = session.fingerprints
    for stage in run.stages:
        if stage != "evaluate":
            yield f"{stage} {prints[stage]}", each.get(stage, 0.0)
    if "evaluate" in run.stages:
        models = models_of(run.recipe.controls)
        for model in models:
            made = prints["cut" if model == "student" else model]
            yield f"evaluate {run.seed} {model} {made}", each.get("evaluate", 0.0) / len(models)


def _many(number: int, noun: str) -> str:
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"
