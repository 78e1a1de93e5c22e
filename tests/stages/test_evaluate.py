"""The evaluation of a run: several samples a prompt, each kept, the first as it always was."""

import json
import math
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_run import small_recipe

from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.chat import decode_completion
from warmup_distill.models.loading import BUNDLED, load_model
from warmup_distill.records import Prediction
from warmup_distill.stages.evaluate import evaluate_models, read_benchmark
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_records

CHECKED = 4
BENCHMARKS = [
    {"name": "test", "dataset": "bundled:problems", "split": "test", "limit": 6},
    {"name": "wording", "dataset": "bundled:problems", "split": "dev", "limit": 3,
     "metric": "rouge_l"},
]  # fmt: skip


def evaluated(folder: Path, samples: int) -> Session:
    """The student, and copies of it where the run would have trained models."""
    for name in ("warmup", "distill"):
        shutil.copytree(BUNDLED / "student", folder / name)
    section = {"benchmarks": BENCHMARKS, "samples": samples, "agreement_prompts": CHECKED}
    session = Session(folder, small_recipe(control=False, evaluate=section))
    counts = evaluate_models(session)
    assert counts == {"models": 3, "completions": 3 * 9 * (1 + samples)}
    return session


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Session]]:
    yield {n: evaluated(tmp_path_factory.mktemp(f"samples-{n}"), n) for n in (1, 3)}


def predictions(session: Session, benchmark: str, decoding: str) -> list[Prediction]:
    path = session.folder / "evaluate" / "student" / "predictions.parquet"
    return [
        one
        for one in read_records(path, Prediction)
        if one.benchmark == benchmark and one.decoding == decoding
    ]


def result(session: Session, benchmark: str) -> Any:
    path = session.folder / "evaluate" / "student" / f"{benchmark}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def drawn(one: Prediction) -> Any:
    return one.prompt_id, one.prediction, one.value, one.tokens, one.finish_reason


@pytest.mark.parametrize("benchmark", ["test", "wording"])
def test_first_samples_do_not_depend_on_how_many_there_are(
    sessions: dict[int, Session], benchmark: str
) -> None:
    few, many = (predictions(sessions[n], benchmark, "sampled") for n in (1, 3))
    assert [drawn(one) for one in many if one.sample_index == 0] == [drawn(one) for one in few]
    assert [one.sample_index for one in many] == [0, 1, 2] * (len(many) // 3)
    assert len({one.prediction for one in many}) > len({one.prediction for one in few})
    greedy = [predictions(sessions[n], benchmark, "greedy") for n in (1, 3)]
    assert [drawn(one) for one in greedy[0]] == [drawn(one) for one in greedy[1]]


def test_a_sample_is_drawn_with_the_numbers_of_its_name(sessions: dict[int, Session]) -> None:
    session = sessions[3]
    student = load_model("bundled:student")
    engine = TransformersEngine(student, student, session.vocabulary, 16384)
    prompts = read_benchmark(session, session.recipe.evaluate.benchmarks[0])
    names = [("evaluate", prompt.prompt_id) for prompt in prompts]
    samples = engine.sample(
        [prompt.prompt_ids for prompt in prompts],
        [[stream(0, *name), stream(0, *name, 1), stream(0, *name, 2)] for name in names],
        max_new_tokens=64,
        temperature=1.0,
    )
    texts = [decode_completion(session.tokenizer, one.ids) for group in samples for one in group]
    assert [one.prediction for one in predictions(session, "test", "sampled")] == texts


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("benchmark", ["test", "wording"])
def test_a_score_s_error_is_over_prompts(
    sessions: dict[int, Session], samples: int, benchmark: str
) -> None:
    rows = predictions(sessions[samples], benchmark, "sampled")
    values: dict[str, list[float]] = {}
    for one in rows:
        values.setdefault(one.prompt_id, []).append(one.value)
    means = [sum(some) / samples for some in values.values()]
    said = result(sessions[samples], benchmark)
    assert said["samples"] == samples
    assert said["sampled"]["mean"] == pytest.approx(statistics.fmean(means), abs=1e-4)
    error = statistics.stdev(means) / math.sqrt(len(means))
    assert said["sampled"]["standard_error"] == pytest.approx(error, abs=1e-4)


@pytest.mark.parametrize("samples", [1, 3])
def test_what_is_kept_of_each_completion_gives_the_means_again(
    sessions: dict[int, Session], samples: int
) -> None:
    rows = predictions(sessions[samples], "test", "sampled")
    checked = rows[: CHECKED * samples]
    assert all(one.has_mismatch is None and one.margin is None for one in rows[len(checked) :])
    said, tokens = result(sessions[samples], "test")["agreement"], sum(r.tokens for r in checked)
    assert said["samples"] == len(checked)
    assert said["mismatch_share"] == sum(bool(one.has_mismatch) for one in checked) / len(checked)
    for name, mean in (
        ("margin", "mean_margin"), ("forward_kl", "forward_kl"), ("reverse_kl", "reverse_kl"),
    ):  # fmt: skip
        total = sum(getattr(one, name) for one in checked)
        assert said[mean] == pytest.approx(total / tokens, rel=1e-5)


def test_the_bar_of_an_evaluation_ends_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = evaluated(tmp_path, 2)
    assert "evaluate: 100%" in capsys.readouterr().err.strip().splitlines()[-1].split("\r")[-1]
    shutil.rmtree(session.folder / "evaluate" / "distill")
    evaluate_models(session)  # two of three models are there
    assert "evaluate: 100%" in capsys.readouterr().err.strip().splitlines()[-1].split("\r")[-1]
