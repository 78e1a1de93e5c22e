"""evaluate: every model of the run × every benchmark → scores, predictions, agreement."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm
from transformers import PreTrainedModel

from warmup_distill.data.prompting import read_prompts
from warmup_distill.engines.drawing import draw
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import DataError
from warmup_distill.models.chat import decode_completion
from warmup_distill.models.loading import load_model
from warmup_distill.recipe import Benchmark
from warmup_distill.records import Completion, Prediction, Prompt
from warmup_distill.scoring.agreement import measure_agreement
from warmup_distill.scoring.metrics import METRICS, Gold
from warmup_distill.scoring.statistics import estimate
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import write_json, write_records
from warmup_distill.store.fingerprints import content
from warmup_distill.store.stopping import leave_if_asked

DECODINGS: tuple[tuple[Literal["greedy", "sampled"], float], ...] = (
    ("greedy", 0.0),
    ("sampled", 1.0),
)
"""Name and temperature of the two ways in which every model is asked."""


def evaluate_models(session: Session) -> dict[str, int]:
    """Write evaluate/<model>/ for every model of the run and return the counts."""
    recipe = session.recipe
    models = {"student": session.student_name, "warmup": str(session.folder / "warmup")}
    if recipe.control:
        models["control"] = str(session.folder / "control")
    models["distill"] = str(session.folder / "distill")
    benchmarks = [(b, read_benchmark(session, b)) for b in recipe.evaluate.benchmarks]
    total = len(models) * len(DECODINGS) * sum(len(prompts) for _, prompts in benchmarks)
    with tqdm(total=total, desc="evaluate", unit="completion", disable=not total) as bar:
        for name, where in models.items():
            _evaluate_model(session, name, where, benchmarks, bar)
            shutil.rmtree(session.folder / "evaluate" / name / "drawn", ignore_errors=True)
            leave_if_asked()
    return {"models": len(models), "completions": total}


def _evaluate_model(
    session: Session,
    name: str,
    where: str,
    benchmarks: Sequence[tuple[Benchmark, list[Prompt]]],
    bar: "tqdm[Any]",
) -> None:
    folder = session.folder / "evaluate" / name
    if (folder / "predictions.parquet").exists():  # written last
        bar.update(len(DECODINGS) * sum(len(prompts) for _, prompts in benchmarks))
        return
    model = load_model(where, session.recipe.dtype)
    known = [where, content(where), session.recipe.dtype]
    everything = []
    for benchmark, prompts in benchmarks:
        drawn = folder / "drawn" / benchmark.name
        result, predictions = _evaluate(session, model, known, benchmark, prompts, drawn, bar)
        write_json(folder / f"{benchmark.name}.json", {"model": name} | result)
        everything += predictions
    write_records(folder / "predictions.parquet", Prediction, everything)


def _evaluate(
    session: Session,
    model: PreTrainedModel,
    known: Any,
    benchmark: Benchmark,
    prompts: Sequence[Prompt],
    folder: Path,
    bar: "tqdm[Any]",
) -> tuple[dict[str, Any], list[Prediction]]:
    recipe = session.recipe
    batch_tokens = recipe.evaluate.batch_tokens
    engine = TransformersEngine(
        model, session.teacher, session.vocabulary, batch_tokens, advance=bar.update
    )
    predictions: list[Prediction] = []
    result: dict[str, Any] = {
        "benchmark": benchmark.name,
        "metric": benchmark.metric,
        "prompts": len(prompts),
    }
    completions: dict[str, list[Completion]] = {}
    for decoding, temperature in DECODINGS:
        # Every model gets the same random numbers, so that differences between them are paired.
        drawn = draw(
            engine,
            [prompt.prompt_ids for prompt in prompts],
            [[stream(recipe.seed, "evaluate", prompt.prompt_id)] for prompt in prompts],
            folder / decoding,
            model=known,
            max_new_tokens=benchmark.max_new_tokens or recipe.rollouts.max_new_tokens,
            temperature=temperature,
        )
        completions[decoding] = [completion for (completion,) in drawn]
        scored = [
            _predict(session, benchmark, decoding, prompt, completion)
            for prompt, completion in zip(prompts, completions[decoding], strict=True)
        ]
        truncated = sum(prediction.finish_reason == "length" for prediction in scored)
        values = [prediction.value for prediction in scored]
        result[decoding] = asdict(estimate(values)) | {"truncated": truncated}
        predictions += scored
    count = recipe.evaluate.agreement_prompts
    agreement = measure_agreement(
        engine.student,
        engine.teacher,
        [prompt.prompt_ids for prompt in prompts[:count]],
        [one.completion_ids for one in completions["sampled"][:count]],
        margin_threshold=recipe.rollouts.margin_threshold,
        batch_tokens=batch_tokens,
    )
    return result | {"agreement": asdict(agreement)}, predictions


def _predict(
    session: Session,
    benchmark: Benchmark,
    decoding: Literal["greedy", "sampled"],
    prompt: Prompt,
    completion: Completion,
) -> Prediction:
    text = decode_completion(session.tokenizer, completion.completion_ids)
    metric = "gsm8k_strict" if benchmark.metric == "accuracy" else benchmark.metric
    gold = Gold(
        references=[] if prompt.reference is None else [prompt.reference], answer=prompt.answer
    )
    return Prediction(
        benchmark=benchmark.name,
        decoding=decoding,
        prompt_id=prompt.prompt_id,
        prediction=text,
        reference=prompt.reference,
        answer=prompt.answer,
        value=METRICS[metric](text, gold).value,
        finish_reason=completion.finish_reason,
    )


def read_benchmark(session: Session, benchmark: Benchmark) -> list[Prompt]:
    """The prompts of a benchmark, each with what its metric needs.

    Raises:
        DataError: they cannot be read, or one has nothing to be held to.
    """
    prompts, _ = read_prompts(
        benchmark,
        session.renderer,
        context=session.context,
        max_new_tokens=benchmark.max_new_tokens or session.recipe.rollouts.max_new_tokens,
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
