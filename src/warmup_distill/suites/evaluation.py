"""Suites on any model, or on all models of a run; results are kept and not computed twice."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from warmup_distill.cluster.choosing import place_of
from warmup_distill.cluster.places import Place
from warmup_distill.engines.batching import Batching, Chosen
from warmup_distill.engines.drawing import forget
from warmup_distill.engines.fitting import Texts, choose
from warmup_distill.engines.progress import Progress
from warmup_distill.errors import DataError, RunError
from warmup_distill.foreign.showing import brief
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.loading import (
    DType,
    context_of,
    identity,
    load_config,
    load_generation_config,
    load_tokenizer,
)
from warmup_distill.models.vocabulary import shared_vocabulary
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.cluster import ClusterSection
from warmup_distill.recipe.controls import MODELS
from warmup_distill.recipe.reading import load_recipe
from warmup_distill.recipe.section import TokenCount
from warmup_distill.store.artifacts import read_json, write_json, write_records
from warmup_distill.store.environment import describe_environment
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.hashing import sha256
from warmup_distill.store.leaves import require_no_links
from warmup_distill.store.locking import locked
from warmup_distill.store.manifest import Manifest
from warmup_distill.store.removing import remove_files, sweep
from warmup_distill.store.stopping import leave_if_asked
from warmup_distill.suites.catalogue import SEVEN, SUITES, SuiteRow, read_suite
from warmup_distill.suites.evaluating import SuitePrediction, evaluate_suite, longest, put
from warmup_distill.suites.profiles import PROFILES, Profile, renderer_of

logger = logging.getLogger(__name__)

BATCHING = "batching.json"
"""While a model is evaluated: its tokens at once, so that a second start goes on with them."""


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
    batch_tokens: TokenCount = "auto"
    dtype: DType = "float32"
    cluster: ClusterSection | None = None
    """Workers that draw; this process if None."""


def ask(
    suites: str,
    profile: str,
    limit: int | None,
    data: Path | None,
    max_new_tokens: int | None,
    batch_tokens: TokenCount,
    dtype: DType,
) -> Question:
    """A question from what stands on the command line; `suites` is a list with commas, or `all`.

    Raises:
        DataError: a suite is not known.
    """
    names = list(SEVEN) if suites == "all" else [name.strip() for name in suites.split(",")]
    for name in names:
        if name not in SUITES:
            raise DataError(f"expected suites from {', '.join(SUITES)} or all, got {brief(name)}.")
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
    question = replace(question, chat=_chat(load_recipe(run / "recipe.yaml"), question.profile))
    with locked(run), place_of(question.cluster) as place:
        require_no_links(run, ["suites"])
        return [
            path
            for name, where in _models(run).items()
            for path in _evaluate_model(where, run / "suites" / name, question, place)
        ]


def _models(run: Path) -> dict[str, str]:
    """Teacher, student, and the run's own models: those of complete stages as they left them."""
    recipe, manifest = load_recipe(run / "recipe.yaml"), Manifest(run)
    stages = ("cut", *MODELS[1:])
    made = [stage for stage in stages if (run / stage / "config.json").is_file()]
    manifest.require_intact([stage for stage in stages if manifest.complete(stage)])
    found = {"teacher": recipe.teacher} | ({} if recipe.cut else {"student": recipe.student})
    names = {"student" if stage == "cut" else stage: str(run / stage) for stage in made}
    return found | names


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
            suites are. Or another process writes to the folder.
    """
    with locked(folder), place_of(question.cluster) as place:
        sweep(folder)
        return _evaluate_model(name, folder, question, place)


def _evaluate_model(name: str, folder: Path, question: Question, place: Place) -> list[Path]:
    """As `evaluate_model`, in a folder that is held.

    Raises:
        WarmupDistillError: a model or its data cannot be read; nothing is evaluated before all
            suites are.
    """
    rows = {suite: read_suite(suite, question.data, question.limit) for suite in question.suites}
    paths = {suite: folder / f"{suite}-{question.profile.name}.json" for suite in rows}
    asked = {suite: _asked(name, question, suite, *rows[suite]) for suite in rows}
    missing = [suite for suite in rows if not _is_done(paths[suite], asked[suite])]
    if missing:
        some = {suite: rows[suite][0] for suite in missing}
        _evaluate(name, some, paths, asked, question, place)
    forget(_drawn(path) for path in paths.values())
    return list(paths.values())


def _asked(
    name: str, question: Question, suite: str, rows: Sequence[SuiteRow], origin: str
) -> dict[str, Any]:
    """What a result is the answer to."""
    chat = {"chat": question.chat} if question.chat else {}
    return chat | {
        "model": name,
        "profile": asdict(question.profile) | {"seeds": list(question.profile.seeds)},
        "metrics": list(SUITES[suite].metrics),
        "source": origin,
        "rows": digest([asdict(row) for row in rows]),
        "weights": identity(name),
        "dtype": question.dtype,
    }


def _is_done(path: Path, asked: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    result = _require_whole(path)
    there = result["asked"]
    differing = [key for key in asked if there.get(key) != asked[key]]
    if "seal" not in result:  # an earlier version named weights in another way
        differing = [key for key in differing if key != "weights"]
    if differing:
        raise RunError(
            f"{path} holds the result of another question; what differs: {', '.join(differing)}. "
            f"Remove {path.parent} to ask again, or give another --output-dir."
        )
    return True


def _require_whole(path: Path) -> dict[str, Any]:
    """A result that is as it was written, with its predictions.

    Raises:
        RunError: it is not.
    """
    result = read_json(path)
    whole = isinstance(result, dict) and isinstance(result.get("asked"), dict)
    if whole and "seal" not in result:
        logger.warning("%s is of an earlier version, which kept no hashes: taken as it is.", path)
    elif not whole or result["seal"] != _seal(path, result):
        raise RunError(
            f"{path}, or the predictions beside it, are not as they were written. Put back a copy, "
            f"or remove {path} to ask again."
        )
    return dict(result)


def _seal(path: Path, result: dict[str, Any]) -> str:
    """A digest of a result and of its predictions."""
    predictions = path.with_suffix(".parquet")
    known = sha256(predictions) if predictions.is_file() else None
    return digest([{key: result[key] for key in result if key != "seal"}, known])


def _drawn(path: Path) -> Path:
    """Where completions are until the result is there."""
    return path.with_suffix(".drawn")


def _evaluate(
    name: str,
    rows: dict[str, list[SuiteRow]],
    paths: dict[str, Path],
    asked: dict[str, dict[str, Any]],
    question: Question,
    place: Place,
) -> None:
    renderer = renderer_of(question.profile, load_tokenizer(name), **question.chat)
    config = load_config(name)
    vocabulary = shared_vocabulary(
        renderer, renderer, {"model": config}, [load_generation_config(name)]
    )
    asking: list[list[int]] = []
    for suite, some in rows.items():  # what does not fit is found before anything is drawn
        asking += put(renderer, question.profile, SUITES[suite], some, context_of(config))[1]
    model = ModelRef.of(name, question.dtype)
    profile = question.profile
    lengths = {suite: longest(profile, SUITES[suite]) for suite in rows}
    most = sum(len(some) * lengths[suite] for suite, some in rows.items())
    where = next(iter(paths.values())).parent / BATCHING
    texts = Texts.of(asking, min(lengths.values()), len(profile.seeds))
    choosing = partial(choose, question.batch_tokens, place, [model], texts)
    batching = _batching(where, question.batch_tokens, choosing)
    with Progress(Path(name).name, len(profile.seeds) * most) as progress:
        for suite, some in rows.items():
            began, resumed = progress.seconds, _drawn(paths[suite]).exists()
            result, predictions = evaluate_suite(
                place,
                model,
                renderer,
                vocabulary,
                SUITES[suite],
                some,
                profile,
                _drawn(paths[suite]),
                progress,
                context=context_of(config),
                batching=batching,
            )
            # Of a suite that was interrupted nobody has the time.
            seconds = None if resumed else round(progress.seconds - began, 1)
            write_records(paths[suite].with_suffix(".parquet"), SuitePrediction, predictions)
            result = {"suite": suite, "asked": asked[suite]} | result
            result |= {"seconds": seconds, "environment": describe_environment()}
            result |= {"batch_tokens": asdict(batching.chosen)}
            write_json(paths[suite], result | {"seal": _seal(paths[suite], result)})
            leave_if_asked()
    remove_files([where], above=where.parent)


def _batching(path: Path, asked: TokenCount, choosing: Callable[[], Chosen]) -> Batching:
    """The tokens at once as an interrupted evaluation left them in a file, or chosen now."""
    chosen = Chosen.known(read_json(path), asked) if path.is_file() else None
    if chosen is None:
        chosen = choosing()
        write_json(path, asdict(chosen))
    return Batching(chosen, partial(write_json, path))
