"""evaluate: every model of the run × every benchmark → scores, predictions, agreement."""

import shutil
from collections.abc import Sequence

from warmup_distill.data.prompting import read_prompts
from warmup_distill.engines.progress import Progress
from warmup_distill.errors import DataError
from warmup_distill.recipe import Benchmark, Recipe
from warmup_distill.records import Prediction, Prompt
from warmup_distill.stages.evaluation import Evaluation, longest
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import write_json, write_records
from warmup_distill.store.stopping import leave_if_asked


def evaluate_models(session: Session) -> dict[str, int]:
    """Write evaluate/<model>/ for every model of the run and return the counts."""
    recipe = session.recipe
    models = {"student": session.student_name, "warmup": str(session.folder / "warmup")}
    if recipe.control:
        models["control"] = str(session.folder / "control")
    models["distill"] = str(session.folder / "distill")
    benchmarks = [(b, read_benchmark(session, b)) for b in recipe.evaluate.benchmarks]
    most = sum(_most_tokens(recipe, benchmark, len(prompts)) for benchmark, prompts in benchmarks)
    with Progress("evaluate", len(models) * most) as progress:
        for name, where in models.items():
            folder = session.folder / "evaluate" / name
            if (folder / "predictions.parquet").exists():  # written last
                progress.settle(most)
            else:
                _evaluate_model(session, name, where, benchmarks, progress)
            shutil.rmtree(folder / "drawn", ignore_errors=True)
            leave_if_asked()
    each = (1 + recipe.evaluate.samples) * sum(len(prompts) for _, prompts in benchmarks)
    return {"models": len(models), "completions": len(models) * each}


def _most_tokens(recipe: Recipe, benchmark: Benchmark, prompts: int) -> int:
    """Tokens of a benchmark that one model draws, and that the teacher checks, at the most."""
    section = recipe.evaluate
    drawn = (1 + section.samples) * prompts
    checked = section.samples * min(section.agreement_prompts, prompts)
    return (drawn + checked) * longest(recipe, benchmark)


def _evaluate_model(
    session: Session,
    name: str,
    where: str,
    benchmarks: Sequence[tuple[Benchmark, list[Prompt]]],
    progress: Progress,
) -> None:
    folder = session.folder / "evaluate" / name
    evaluation = Evaluation(session, where, folder / "drawn", progress)
    everything: list[Prediction] = []
    for benchmark, prompts in benchmarks:
        result, predictions = evaluation.on(benchmark, prompts)
        write_json(folder / f"{benchmark.name}.json", {"model": name} | result)
        everything += predictions
    write_records(folder / "predictions.parquet", Prediction, everything)


def read_benchmark(session: Session, benchmark: Benchmark) -> list[Prompt]:
    """The prompts of a benchmark, each with what its metric needs.

    Raises:
        DataError: they cannot be read, or one has nothing to be held to.
    """
    prompts, _ = read_prompts(
        benchmark,
        session.tokenizer,
        session.recipe.prompts.format,
        context=session.context,
        max_new_tokens=longest(session.recipe, benchmark),
    )
    needed = "reference" if benchmark.compares_texts else "answer"
    for prompt in prompts:
        if getattr(prompt, needed) is None:
            raise DataError(
                f"benchmark {benchmark.name}: metric {benchmark.metric} needs an {needed} for "
                f"every prompt, but {prompt.prompt_id} has none."
            )
    return prompts
