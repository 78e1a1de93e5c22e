"""evaluate: every model of the run × every benchmark → scores, predictions, agreement."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from warmup_distill.cluster.places import Meter
from warmup_distill.data.prompting import read_prompts
from warmup_distill.engines.batching import Batching
from warmup_distill.engines.drawing import forget
from warmup_distill.engines.fitting import Texts
from warmup_distill.engines.progress import Progress
from warmup_distill.errors import DataError
from warmup_distill.ledger.costs import costs
from warmup_distill.ledger.counting import of_predictions
from warmup_distill.models.holding import ModelRef
from warmup_distill.recipe import Benchmark, Recipe
from warmup_distill.recipe.controls import models_of
from warmup_distill.records import Prediction, Prompt
from warmup_distill.stages.evaluation import Subject, ask_all, longest
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_notes, read_records, write_json, write_records
from warmup_distill.store.fingerprints import asked, digest
from warmup_distill.store.hashing import sha256
from warmup_distill.store.removing import remove_empty
from warmup_distill.store.sharing import share
from warmup_distill.store.stopping import leave_if_asked

PREDICTIONS = "predictions.parquet"

Benchmarks = Sequence[tuple[Benchmark, list[Prompt]]]
"""What is asked, each with its prompts."""


def evaluate_models(session: Session) -> dict[str, int]:
    """Write evaluate/<model>/ for every model of the run and return the counts."""
    recipe = session.recipe
    models = {name: str(session.folder / name) for name in models_of(recipe.controls)}
    models["student"] = session.student_name
    benchmarks = [(b, read_benchmark(session, b)) for b in recipe.evaluate.benchmarks]
    most = sum(_most_tokens(recipe, benchmark, len(prompts)) for benchmark, prompts in benchmarks)
    folders = {name: session.folder / "evaluate" / name for name in models}
    refs = {name: session.ref(where) for name, where in models.items()}
    questions = {name: _question(session, ref) for name, ref in refs.items()}
    for name in models:
        _take_over(session, name, questions[name], benchmarks)
    waiting = [name for name in models if not _is_done(folders[name], questions[name], benchmarks)]
    pending = [(name, benchmark) for name in waiting for benchmark in benchmarks]
    answered: list[Subject] = []
    with Progress("evaluate", len(models) * most) as progress:
        progress.settle((len(models) - len(waiting)) * most)
        if pending:
            batching = _batching(session, benchmarks)
            answered = batching.run(partial(_ask, session, pending, refs), progress)
    for name in waiting:
        some = [one for (owner, _), one in zip(pending, answered, strict=True) if owner == name]
        _write_results(some, folders[name], name, benchmarks, questions[name])
        leave_if_asked()
    _charge(session, folders, benchmarks)
    for folder in folders.values():
        forget((folder / "drawn").glob("*/*"))
        remove_empty([folder / "drawn"])
    each = (1 + recipe.evaluate.samples) * sum(len(prompts) for _, prompts in benchmarks)
    return {"models": len(models), "completions": len(models) * each}


def _charge(session: Session, folders: Mapping[str, Path], benchmarks: Benchmarks) -> None:
    """Write down what the evaluation cost, from the predictions of all models."""
    lengths = {
        (benchmark.name, one.prompt_id): len(one.prompt_ids)
        for benchmark, prompts in benchmarks
        for one in prompts
    }
    found = (
        one for folder in folders.values() for one in read_records(folder / PREDICTIONS, Prediction)
    )
    passes = of_predictions(lengths, found, session.apart)
    session.charge("evaluate", costs(passes, session.sizes))


def _question(session: Session, model: ModelRef) -> str:
    """A digest of what is asked of a model, the same in each run that asks the same of it."""
    asked_of_all = asked(session.recipe, "evaluate", session.contents)
    fields = {name: one for name, one in asked_of_all["fields"].items() if name != "control"}
    return digest([fields, session.contents, model.identity])


def _take_over(session: Session, model: str, question: str, benchmarks: Benchmarks) -> None:
    """Take over what the same model answered in another run."""
    there = Path("evaluate") / model
    if _is_done(session.folder / there, question, benchmarks):
        return
    for other in session.others:
        if _is_done(other / there, question, benchmarks):
            for name in (*(f"{one.name}.json" for one, _ in benchmarks), PREDICTIONS):
                share(other / there / name, session.folder / there / name)
            return


def _ask(
    session: Session,
    pending: Sequence[tuple[str, tuple[Benchmark, list[Prompt]]]],
    refs: Mapping[str, ModelRef],
    batch_tokens: int,
    meter: Meter,
) -> list[Subject]:
    """What models, by name, say of benchmarks."""
    subjects = [
        Subject(
            session=session,
            model=refs[name],
            benchmark=benchmark,
            prompts=prompts,
            batch_tokens=batch_tokens,
        )
        for name, (benchmark, prompts) in pending
    ]
    folder = session.folder / "evaluate"
    drawn = [folder / name / "drawn" / benchmark.name for name, (benchmark, _) in pending]
    return ask_all(session, subjects, drawn, meter)


def _batching(session: Session, benchmarks: Benchmarks) -> Batching:
    """The models of a run have one shape, and each is held to the teacher by itself."""
    recipe = session.recipe
    models = session.ref(session.student_name), session.teacher_ref
    texts = Texts(
        prompt=max(len(one.prompt_ids) for _, prompts in benchmarks for one in prompts),
        completion=min(longest(recipe, benchmark) for benchmark, _ in benchmarks),
    )
    return session.batching("evaluate", recipe.evaluate.batch_tokens, models, texts)


def _most_tokens(recipe: Recipe, benchmark: Benchmark, prompts: int) -> int:
    """Tokens of a benchmark that one model draws, and that the teacher checks, at the most."""
    section = recipe.evaluate
    drawn = (1 + section.samples) * prompts
    checked = section.samples * min(section.agreement_prompts, prompts)
    return (drawn + checked) * longest(recipe, benchmark)


def _write_results(
    answered: Sequence[Subject], folder: Path, model: str, benchmarks: Benchmarks, question: str
) -> None:
    """Write a result for each benchmark, and last the predictions, which name the results."""
    everything: list[Prediction] = []
    for subject in answered:
        result, predictions = subject.result()
        write_json(folder / f"{subject.benchmark.name}.json", {"model": model} | result)
        everything += predictions
    notes = {"question": question} | _hashes(folder, benchmarks)
    write_records(folder / PREDICTIONS, Prediction, everything, notes)


def _is_done(folder: Path, question: str, benchmarks: Benchmarks) -> bool:
    """Whether the predictions that are there answer this question, and the results are theirs."""
    expected = {"question": question} | _hashes(folder, benchmarks)
    return len(expected) == 1 + len(benchmarks) and read_notes(folder / PREDICTIONS) == expected


def _hashes(folder: Path, benchmarks: Benchmarks) -> dict[str, str]:
    """The hash of each benchmark's result that is there."""
    paths = [folder / f"{benchmark.name}.json" for benchmark, _ in benchmarks]
    return {path.name: sha256(path) for path in paths if path.is_file()}


def read_benchmark(session: Session, benchmark: Benchmark) -> list[Prompt]:
    """The prompts of a benchmark, each with what its metric needs.

    Raises:
        DataError: they cannot be read, or one has nothing to be held to.
    """
    prompts, _ = read_prompts(
        benchmark,
        session.renderer,
        context=session.context,
        max_new_tokens=longest(session.recipe, benchmark),
    )
    require_gold(benchmark, prompts)
    return prompts


def require_gold(benchmark: Benchmark, prompts: Sequence[Prompt]) -> None:
    """Raise a DataError if a prompt of a benchmark has nothing to be held to."""
    needed = "reference" if benchmark.compares_texts else "answer"
    for prompt in prompts:
        if getattr(prompt, needed) is None:
            raise DataError(
                f"benchmark {benchmark.name}: metric {benchmark.metric} needs {needed}s, and the "
                f"row {prompt.prompt_id} has none. Fill it in, or leave the row out."
            )
