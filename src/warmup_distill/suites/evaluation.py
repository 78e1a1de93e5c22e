"""Suites on any model, or on all models of a run; results are kept and not computed twice."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from warmup_distill.errors import DataError, RunError
from warmup_distill.models.loading import (
    DType,
    load_config,
    load_generation_config,
    load_model,
    load_tokenizer,
)
from warmup_distill.models.vocabulary import shared_vocabulary
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import load_recipe
from warmup_distill.store.artifacts import read_json, write_json, write_records
from warmup_distill.store.environment import describe_environment
from warmup_distill.store.fingerprints import content, digest
from warmup_distill.store.locking import locked
from warmup_distill.store.stopping import leave_if_asked
from warmup_distill.suites.catalogue import SEVEN, SUITES, SuiteRow, read_suite
from warmup_distill.suites.evaluating import SuitePrediction, evaluate_suite
from warmup_distill.suites.profiles import PROFILES, Profile, renderer_of


@dataclass(frozen=True, kw_only=True)
class Question:
    """What models are evaluated on."""

    suites: Sequence[str]
    profile: Profile
    limit: int | None = None
    """Rows of each suite, the first ones."""
    data: Path | None = None
    """A folder with the suites' files; the hub if None."""
    chat: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the chat template, where the profile uses one; see `Renderer`."""
    batch_tokens: int = 16384
    dtype: DType = "float32"


def ask(
    suites: str,
    profile: str,
    limit: int | None,
    data: Path | None,
    max_new_tokens: int | None,
    batch_tokens: int,
    dtype: DType,
) -> Question:
    """A question from what stands on the command line; `suites` is a list with commas, or `all`.

    Raises:
        DataError: a suite is not known.
    """
    names = list(SEVEN) if suites == "all" else [name.strip() for name in suites.split(",")]
    for name in names:
        if name not in SUITES:
            raise DataError(f"expected suites from {', '.join(SUITES)} or all, got {name!r}.")
    chosen = PROFILES[profile]
    if max_new_tokens is not None:
        chosen = replace(chosen, max_new_tokens=max_new_tokens)
    return Question(
        suites=list(dict.fromkeys(names)),
        profile=chosen,
        limit=limit,
        data=data,
        batch_tokens=batch_tokens,
        dtype=dtype,
    )


def is_run(target: str) -> bool:
    """Whether a name is that of a run directory."""
    return (Path(target) / "manifest.json").is_file()


def evaluate_run(run: Path, question: Question) -> list[Path]:
    """Evaluate teacher, student and every trained model of a run; returns the results' paths.

    Results are in `suites/<model>/` of the run directory.
    """
    recipe = load_recipe(run / "recipe.yaml")
    made = {name: run / name for name in ("warmup", "control", "distill")}
    if recipe.cut:
        made = {"student": run / "cut"} | made
    models = {"teacher": recipe.teacher} | ({} if recipe.cut else {"student": recipe.student})
    models |= {name: str(path) for name, path in made.items() if (path / "config.json").is_file()}
    question = replace(question, chat=_chat(recipe, question.profile))
    with locked(run):
        return [
            path
            for name, where in models.items()
            for path in evaluate_model(where, run / "suites" / name, question)
        ]


def _chat(recipe: Recipe, profile: Profile) -> dict[str, Any]:
    """What the run said to the chat template, for profiles that use one too."""
    if profile.template != "chat":
        return {}
    given = {
        "system": recipe.prompts.system,
        "template_kwargs": recipe.prompts.chat_template_kwargs,
    }
    return {name: value for name, value in given.items() if value not in (None, {})}


def evaluate_model(name: str, folder: Path, question: Question) -> list[Path]:
    """Write <suite>-<profile>.json and .parquet of every suite to a folder.

    Raises:
        WarmupDistillError: a model or its data cannot be read; nothing is evaluated before all
            suites are.
    """
    rows = {suite: read_suite(suite, question.data, question.limit) for suite in question.suites}
    paths = {suite: folder / f"{suite}-{question.profile.name}.json" for suite in rows}
    asked = {suite: _asked(name, question, *rows[suite]) for suite in rows}
    missing = [suite for suite in rows if not _is_done(paths[suite], asked[suite])]
    if missing:
        _evaluate(name, {suite: rows[suite][0] for suite in missing}, paths, asked, question)
    for path in paths.values():
        shutil.rmtree(_drawn(path), ignore_errors=True)
    return list(paths.values())


def _asked(name: str, question: Question, rows: Sequence[SuiteRow], origin: str) -> dict[str, Any]:
    """What a result is the answer to."""
    chat = {"chat": question.chat} if question.chat else {}
    return chat | {
        "model": name,
        "profile": asdict(question.profile) | {"seeds": list(question.profile.seeds)},
        "source": origin,
        "rows": digest([asdict(row) for row in rows]),
        "weights": content(name),
        "dtype": question.dtype,
    }


def _is_done(path: Path, asked: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    there = read_json(path)["asked"]
    differing = [key for key in asked if there.get(key) != asked[key]]
    if differing:
        raise RunError(
            f"{path} holds the result of another question; what differs: {', '.join(differing)}. "
            f"Remove {path.parent} to ask again, or give another --output-dir."
        )
    return True


def _drawn(path: Path) -> Path:
    """Where completions are until the result is there."""
    return path.with_suffix(".drawn")


def _evaluate(
    name: str,
    rows: dict[str, list[SuiteRow]],
    paths: dict[str, Path],
    asked: dict[str, dict[str, Any]],
    question: Question,
) -> None:
    renderer = renderer_of(question.profile, load_tokenizer(name), **question.chat)
    vocabulary = shared_vocabulary(
        renderer, renderer, {"model": load_config(name)}, [load_generation_config(name)]
    )
    model = load_model(name, question.dtype)
    total = len(question.profile.seeds) * sum(map(len, rows.values()))
    with tqdm(total=total, desc=Path(name).name, unit="completion") as bar:
        for suite, some in rows.items():
            began, resumed = bar.format_dict["elapsed"], _drawn(paths[suite]).exists()
            result, predictions = evaluate_suite(
                model,
                renderer,
                vocabulary,
                SUITES[suite],
                some,
                question.profile,
                _drawn(paths[suite]),
                name=[name, asked[suite]["weights"], question.dtype],
                batch_tokens=question.batch_tokens,
                advance=bar.update,
            )
            # Of a suite that was interrupted nobody has the time.
            seconds = None if resumed else round(bar.format_dict["elapsed"] - began, 1)
            write_records(paths[suite].with_suffix(".parquet"), SuitePrediction, predictions)
            write_json(
                paths[suite],
                {"suite": suite, "asked": asked[suite]}
                | result
                | {"seconds": seconds, "environment": describe_environment()},
            )
            leave_if_asked()
