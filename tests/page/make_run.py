"""A small made-up run directory: real word problems, invented log-probabilities, no model."""

import json
import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from warmup_distill.bundled.problems import Habit, Problem, draw
from warmup_distill.recipe import Recipe
from warmup_distill.records import Pair, Prediction, Prompt, Rollout
from warmup_distill.store.artifacts import read_records, write_json, write_parts, write_records

HABITS: tuple[Habit, ...] = ("none", "wording", "skip", "slip")

MODELS = {
    "student": (0.71, 0.29, 0.70, 2.3),
    "warmup": (0.70, 0.37, 0.61, 0.91),
    "control": (0.71, 0.38, 0.60, 0.75),
    "distill": (0.71, 0.44, 0.55, 0.69),
}
"""Chance of a right answer, greedy and sampled, of a mismatch, and nats per token."""

BENCHMARK = "problems-test"


def _spent(operations: int, *uses: str) -> dict[str, Any]:
    cost = {"model": "student", "work": "train", "tokens": 1000, "operations": operations}
    return {"cost": [cost], "uses": list(uses)}


SPENT = {
    "rollouts": _spent(6 * 10**14),
    "warmup": _spent(3 * 10**14, "rollouts"),
    "distill": _spent(10**14, "warmup"),
    "control": _spent(10**14),
}
"""What the stages cost: with the warm-up 1e15 operations, ten times as much as without."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Text to plant in a run, as a hostile data set or model could."""

    in_prompt: str = ""
    in_completion: str = ""
    in_name: str = ""


def make_recipe(extras: Extras | None = None, **sections: Any) -> Recipe:
    planted = (extras or Extras()).in_name
    values = {
        "teacher": f"bundled:teacher{planted}",
        "student": f"bundled:student{planted}",
        "control": True,
        "prompts": {"dataset": "bundled:problems", "limit": 2000},
    }
    return Recipe.model_validate(values | sections)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer, trained on a few problems: it can write any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"{one.question} {one.solution}" for one in islice(draw("train", seed=9), 200)]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def make_run(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    *,
    prompts: int = 6,
    samples: int = 4,
    stopped: bool = True,
    extras: Extras | None = None,
) -> None:
    """Write a complete run.

    Args:
        stopped: whether the check stopped at the first mismatch.
        extras: text to plant in prompts, completions and the run's name.
    """
    extras = extras or Extras()
    rng = random.Random(0)
    problems = list(islice(draw("train", seed=0), prompts))
    write_parts(folder / "prompts", Prompt, (_prompt(one, tokenizer, extras) for one in problems))
    rollouts = [
        _rollout(one, index, tokenizer, rng, stopped, extras)
        for one in problems
        for index in range(samples)
    ]
    pairs = list(_pairs(problems, rollouts, tokenizer))
    write_parts(folder / "rollouts", Rollout, rollouts)
    write_parts(folder / "pairs", Pair, pairs)
    _write_logs(folder, rng)
    write_scores(folder)
    write_json(folder / "manifest.json", _manifest(prompts, len(rollouts), len(pairs), extras))


def _prompt(problem: Problem, tokenizer: PreTrainedTokenizerFast, extras: Extras) -> Prompt:
    text = problem.question + extras.in_prompt
    return Prompt(
        prompt_id=problem.problem_id,
        prompt_ids=tokenizer.encode(text),
        text=text,
        reference=problem.solution,
        answer=problem.answer,
    )


def _rollout(
    problem: Problem,
    index: int,
    tokenizer: PreTrainedTokenizerFast,
    rng: random.Random,
    stopped: bool,
    extras: Extras,
) -> Rollout:
    """A habit's solution; it mismatches where it first differs from the teacher's."""
    habit = rng.choice(HABITS)
    planted = extras.in_completion
    student = tokenizer.encode(problem.write(habit, rng) + planted + "<|end|>")
    teacher = tokenizer.encode(problem.solution + planted + "<|end|>")
    differing = (i for i, (a, b) in enumerate(zip(student, teacher, strict=False)) if a != b)
    cut = next(differing, None)
    margins = [rng.gauss(0.1, 0.5) + rng.choice((0, 0, 0, 1.5, -1.5)) for _ in student]
    if cut is not None:
        margins[cut] = 4.05 + rng.expovariate(0.5)
    checked = margins[: cut + 1] if stopped and cut is not None else margins
    student_logprobs = [-rng.expovariate(2.0) for _ in student]
    return Rollout(
        prompt_id=problem.problem_id,
        sample_index=index,
        completion_ids=student,
        student_logprobs=student_logprobs,
        teacher_logprobs=[q - m for q, m in zip(student_logprobs, checked, strict=False)],
        mismatch_index=cut,
        margin=max(margins) if cut is None else margins[cut],
        continuation_ids=None if cut is None else teacher[cut:],
        continuation_ref_logprobs=None if cut is None else [-1.0] * len(teacher[cut:]),
        finish_reason="eos",
        continuation_finish_reason=None if cut is None else "eos",
    )


def _pairs(
    problems: list[Problem], rollouts: list[Rollout], tokenizer: PreTrainedTokenizerFast
) -> Iterator[Pair]:
    questions = {problem.problem_id: problem.question for problem in problems}
    for rollout in rollouts:
        if rollout.mismatch_index is None or rollout.continuation_ids is None:
            continue
        chosen = rollout.completion_ids[: rollout.mismatch_index] + rollout.continuation_ids
        yield Pair(
            prompt_id=rollout.prompt_id,
            sample_index=rollout.sample_index,
            prompt_ids=[],
            chosen_ids=chosen,
            rejected_ids=rollout.completion_ids,
            mismatch_index=rollout.mismatch_index,
            chosen_ref_logprob=-9.0,
            rejected_ref_logprob=-7.0,
            prompt=questions[rollout.prompt_id],
            chosen=tokenizer.decode(chosen, skip_special_tokens=True),
            rejected=tokenizer.decode(rollout.completion_ids, skip_special_tokens=True),
        )


def _write_logs(folder: Path, rng: random.Random) -> None:
    for stage, level in {"warmup": 0.0, "distill": 0.42, "control": 0.55}.items():
        rows = []
        for step in range(5, 305, 5):
            done = 1 - math.exp(-step / 80)
            row = {"step": step, "epoch": step / 300, "learning_rate": 1e-4, "grad_norm": 1.0}
            if stage == "warmup":
                row["loss"] = math.log(2) - 0.35 * done + rng.gauss(0, 0.015)
                row["accuracy"] = 0.5 + 0.38 * done + rng.gauss(0, 0.02)
                row["reward_margin"] = 1.6 * done + rng.gauss(0, 0.05)
            else:
                row["loss"] = level - 0.25 * done + rng.gauss(0, 0.01)
            rows.append(row)
        path = folder / stage / "trainer_log.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_scores(
    folder: Path, *, benchmark: str = BENCHMARK, prompts: int = 400, samples: int = 1,
    checked: int = 300, seed: int = 0,
) -> None:  # fmt: skip
    """Results of all models on a benchmark, each with the same random numbers."""
    for model, (greedy, sampled, mismatch, nats) in MODELS.items():
        rng = random.Random(seed)
        rows = []
        for number in range(prompts):
            hard, habit, luck = rng.random(), rng.lognormvariate(0, 0.5), rng.gauss(0, 0.05)
            rows.append(_prediction(benchmark, number, None, 100.0 * (hard < greedy), 0.0))
            for index in range(samples):
                chance, length = rng.random(), rng.randint(30, 60)
                one = _prediction(benchmark, number, index, 100.0 * (chance < sampled), nats)
                if number < checked:
                    total = length * max(0.0, nats * (habit + luck * rng.random()))
                    one |= {"tokens": length, "has_mismatch": chance > 1 - mismatch}
                    one |= {"margin": total, "forward_kl": 0.5 * total, "reverse_kl": 0.9 * total}
                rows.append(one)
        predictions = [Prediction(**row) for row in rows]
        write_json(folder / "evaluate" / model / f"{benchmark}.json", _result(model, predictions))
        path = folder / "evaluate" / model / "predictions.parquet"
        before = read_records(path, Prediction) if path.exists() else []
        write_records(path, Prediction, [*before, *predictions])


def _prediction(
    benchmark: str, number: int, sample: int | None, value: float, nats: float
) -> dict[str, Any]:
    return {
        "benchmark": benchmark,
        "decoding": "greedy" if sample is None else "sampled",
        "prompt_id": f"test-{number:06d}",
        "sample_index": sample or 0,
        "prediction": "#### 1",
        "reference": None,
        "answer": "1",
        "value": value,
        "finish_reason": "eos",
        "tokens": 40,
        "has_mismatch": None,
        "margin": None,
        "forward_kl": None,
        "reverse_kl": None,
    }


def _result(model: str, predictions: list[Prediction]) -> dict[str, Any]:
    checked = [one for one in predictions if one.has_mismatch is not None]
    tokens = sum(one.tokens for one in checked)
    sampled = [one.sample_index for one in predictions if one.decoding == "sampled"]
    return {
        "model": model,
        "benchmark": predictions[0].benchmark,
        "metric": "accuracy",
        "prompts": len({one.prompt_id for one in predictions}),
        "samples": 1 + max(sampled),
        "greedy": _score(predictions, "greedy"),
        "sampled": _score(predictions, "sampled"),
        "agreement": {
            "samples": len(checked),
            "mismatch_share": statistics.fmean(bool(one.has_mismatch) for one in checked),
            "mean_margin": sum(one.margin or 0 for one in checked) / tokens,
            "forward_kl": sum(one.forward_kl or 0 for one in checked) / tokens,
            "reverse_kl": sum(one.reverse_kl or 0 for one in checked) / tokens,
        },
    }


def _score(predictions: list[Prediction], decoding: str) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for one in predictions:
        if one.decoding == decoding:
            values.setdefault(one.prompt_id, []).append(one.value)
    means = [statistics.fmean(some) for some in values.values()]
    error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    return {"mean": statistics.fmean(means), "standard_error": error, "truncated": 0}


def _manifest(prompts: int, rollouts: int, pairs: int, extras: Extras) -> dict[str, Any]:
    filters = ("equal", "truncated", "verifier", "rouge_l", "reward_model", "max_per_prompt")
    counts = {
        "prompts": {"prompts": prompts, "too_long": 0},
        "rollouts": {"rollouts": rollouts, "mismatching": pairs + 3, "truncated": 5},
        "pairs": {
            "rollouts": rollouts,
            "mismatching": pairs + 3,
            "dropped": dict.fromkeys(filters, 0) | {"truncated": 3},
            "pairs": pairs,
            "verdicts": {
                "checked": pairs + 3,
                "right_to_right": pairs - pairs // 3,
                "right_to_wrong": 1,
                "wrong_to_right": pairs // 3,
                "wrong_to_wrong": 2,
            },
        },
        "warmup": {"steps": 300},
        "distill": {"steps": 300},
        "control": {"steps": 300},
    }
    return {
        "name": f"quickstart{extras.in_name}",
        "versions": {"warmup-distill": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "hardware": {"cpu": "Xeon @ 2.60GHz", "cores": 2, "memory_gib": 23.5, "gpu": None},
        "stages": {
            stage: {"state": "complete", "seconds": 31.7 * (index + 1), "counts": numbers}
            | SPENT.get(stage, {})
            for index, (stage, numbers) in enumerate(counts.items())
        },
    }
