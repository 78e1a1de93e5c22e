"""Suites on any model, or on all models of a run; results are kept and not computed twice."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from warmup_distill.cluster.choosing import place_of
from warmup_distill.cluster.places import Meter, Place
from warmup_distill.engines.batching import Batching, Chosen
from warmup_distill.engines.drawing import draw_each, forget
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
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.leaves import require_no_links
from warmup_distill.store.locking import locked
from warmup_distill.store.manifest import Manifest
from warmup_distill.store.removing import remove_files, sweep
from warmup_distill.suites.catalogue import SEVEN, SUITES, SuiteRow, read_suite
from warmup_distill.suites.evaluating import Subject
from warmup_distill.suites.profiles import PROFILES, Profile, renderer_of
from warmup_distill.suites.results import Answer
from warmup_distill.suites.serving import AT_ONCE, Server, on_server

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
    server: Server | None = None
    """That holds the model; in process if None."""


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
    if question.server:
        raise RunError(
            f"--server names one server, which holds one model, and {run} has several. Start a "
            "server for each, and name the model instead of the run: warmup-distill evaluate "
            f"{run / 'distill'} --suite {','.join(question.suites)} --server {question.server.url}"
        )
    question = replace(question, chat=_chat(load_recipe(run / "recipe.yaml"), question.profile))
    with locked(run), place_of(question.cluster) as place:
        require_no_links(run, ["suites"])
        folders = {run / "suites" / name: where for name, where in _models(run).items()}
        return _evaluate(folders, run / "suites", question, place)


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
    if question.server:
        question.server.require(question.profile)
    with locked(folder), place_of(question.cluster) as place:
        sweep(folder)
        return _evaluate({folder: name}, folder, question, place)


def _evaluate(
    models: Mapping[Path, str], above: Path, question: Question, place: Place
) -> list[Path]:
    """Evaluate models.

    Args:
        models: by the folders that their results go to, which are held.
        above: holds all these folders, or is the only one.

    Raises:
        WarmupDistillError: a model or its data cannot be read; nothing is evaluated before all
            suites are.
    """
    suites = {suite: read_suite(suite, question.data, question.limit) for suite in question.suites}
    answers: list[Answer] = []
    waiting: list[tuple[Answer, Subject]] = []
    for folder, name in models.items():
        some = [_answer(name, folder, question, suite, *read) for suite, read in suites.items()]
        missing = [one for one in some if not one.is_there()]
        rows = {one.suite: suites[one.suite][0] for one in missing}
        waiting += zip(missing, _subjects(name, rows, question) if rows else [], strict=True)
        answers += some
    if waiting:
        _ask(waiting, above, question, place)
    forget(answer.drawn for answer in answers)
    return [answer.path for answer in answers]


def _answer(
    name: str, folder: Path, question: Question, suite: str, rows: Sequence[SuiteRow], origin: str
) -> Answer:
    """The file of a model's result, and what it is the answer to."""
    chat = {"chat": question.chat} if question.chat else {}
    asked = chat | {
        "model": name,
        "profile": asdict(question.profile) | {"seeds": list(question.profile.seeds)},
        "metrics": list(SUITES[suite].metrics),
        "source": origin,
        "rows": digest([asdict(row) for row in rows]),
        "weights": identity(name),
        "dtype": question.dtype,
        **({"engine": "vllm"} if question.server else {}),
    }
    return Answer(path=folder / f"{suite}-{question.profile.name}.json", suite=suite, asked=asked)


def _subjects(
    name: str, rows: Mapping[str, Sequence[SuiteRow]], question: Question
) -> list[Subject]:
    """One model on each of some suites."""
    renderer = renderer_of(question.profile, load_tokenizer(name), **question.chat)
    config = load_config(name)
    vocabulary = shared_vocabulary(
        renderer, renderer, {"model": config}, [load_generation_config(name)]
    )
    return [
        Subject(
            model=ModelRef.of(name, question.dtype),
            renderer=renderer,
            vocabulary=vocabulary,
            suite=SUITES[suite],
            rows=some,
            profile=question.profile,
            context=context_of(config),
        )
        for suite, some in rows.items()
    ]


def _ask(
    waiting: Sequence[tuple[Answer, Subject]], above: Path, question: Question, place: Place
) -> None:
    """Draw everything at once, and write each result as soon as its completions are there."""
    answers, subjects = ([*column] for column in zip(*waiting, strict=True))
    batching = _batching(above / BATCHING, question, subjects, place)
    # Of a suite that was interrupted nobody has the time.
    timed = [not answer.drawn.exists() for answer in answers]
    facts: dict[str, Any] = {}
    with Progress("suites", sum(one.most_tokens for one in subjects)) as progress:
        if question.server:
            workers = question.cluster.num_workers if question.cluster else 1
            address = question.server.address(subjects[0].model, workers)
            subjects, found = on_server(subjects, address, place, progress)
            facts = {"server": found}

        def work(batch_tokens: int, meter: Meter) -> None:
            wanted = [one.drawing(batch_tokens) for one in subjects]
            began = progress.seconds
            for number, drawn in draw_each(place, wanted, [one.drawn for one in answers], meter):
                result, predictions = subjects[number].result(drawn)
                seconds = round(progress.seconds - began, 1) if timed[number] else None
                result |= {"seconds": seconds, "batch_tokens": asdict(batching.chosen)} | facts
                answers[number].write(result, predictions)
                began = progress.seconds

        batching.run(work, progress)
    remove_files([above / BATCHING], above=above)


def _batching(
    path: Path, question: Question, subjects: Sequence[Subject], place: Place
) -> Batching:
    """The tokens at once as an interrupted evaluation left them in a file, or chosen now.

    All models have as many, for batches of several are under way together: what the largest takes.
    """
    asked = question.batch_tokens
    if question.server and asked == "auto":
        asked = AT_ONCE  # the server knows what fits into its memory
    prompts = (ids for one in subjects for ids in one.asked)
    shortest, seeds = min(one.longest for one in subjects), len(subjects[0].profile.seeds)
    texts = Texts.of(prompts, shortest, seeds)
    chosen = Chosen.known(read_json(path), asked) if path.is_file() else None
    if chosen is None:
        models = dict.fromkeys(one.model for one in subjects)
        each = [choose(asked, place, [model], texts) for model in models]
        chosen = min(each, key=lambda one: one.tokens)
        write_json(path, asdict(chosen))
    return Batching(chosen, partial(write_json, path))
