"""A suite asked of a server: the same greedy answers, and one message for what cannot be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_vllm import FakeVllm
from transformers import AutoModelForCausalLM

from warmup_distill.engines import wire
from warmup_distill.errors import RunError
from warmup_distill.models.loading import BUNDLED
from warmup_distill.store.artifacts import read_json, read_records
from warmup_distill.suites.evaluating import SuitePrediction
from warmup_distill.suites.evaluation import Question, ask, evaluate_model, evaluate_run
from warmup_distill.suites.serving import Server

KEY = "sk-CANARYcanaryCANARY"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAUSES", (0.0,))
    monkeypatch.setenv("A_KEY", KEY)


@pytest.fixture
def fake() -> FakeVllm:
    found = FakeVllm(AutoModelForCausalLM.from_pretrained(BUNDLED / "student"))
    found.key, found.context = KEY, 512
    return found


@pytest.fixture
def question(tmp_path: Path) -> Question:
    rows = [
        {"id": str(n), "prompt": f"What is {n} and 2?", "reference": "x", "answer": str(n + 2)}
        for n in range(3)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "gsm8k_test.jsonl").write_text(lines, encoding="utf-8")
    return ask("gsm8k", "clean", None, tmp_path, 12, "auto", "float32")


def predictions(path: Path) -> list[Any]:
    return read_records(path.with_suffix(".parquet"), SuitePrediction)


def test_greedy_answers_of_a_server_are_those_of_this_process(
    fake: FakeVllm, question: Question, tmp_path: Path
) -> None:
    (here,) = evaluate_model("bundled:student", tmp_path / "here", question)
    with fake.listening() as url:
        asked = replace(question, server=Server(url=url, key_env="A_KEY"))
        (there,) = evaluate_model("bundled:student", tmp_path / "there", asked)
        fake.bodies.clear()
        evaluate_model("bundled:student", tmp_path / "there", asked)
    assert not fake.bodies  # what is there is not asked for again
    assert predictions(there) == predictions(here)
    found = read_json(there)
    assert found["asked"]["engine"] == "vllm"
    assert found["server"]["model"] == "served"
    assert found["server"]["largest_difference"] < 1e-4
    assert KEY not in there.read_text(encoding="utf-8")


def test_another_engine_is_another_question(
    fake: FakeVllm, question: Question, tmp_path: Path
) -> None:
    evaluate_model("bundled:student", tmp_path / "one", question)
    with fake.listening() as url, pytest.raises(RunError, match="what differs: engine"):
        asked = replace(question, server=Server(url=url, key_env="A_KEY"))
        evaluate_model("bundled:student", tmp_path / "one", asked)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (Server(url="gpu1:8001"), "--server: expected an address such as http://127.0.0.1:8000"),
        (Server(url="http://key@gpu1:8001"), "without a name, a password"),
        (Server(url="http://gpu1:8001", key_env="NO_KEY_HERE"), "--api-key-env names NO_KEY_HERE"),
        (Server(url="http://127.0.0.1:9"), "nothing listens there.*Start it.*or mend --server"),
    ],
)
def test_a_server_that_cannot_be_asked_is_said(
    server: Server, said: str, question: Question, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=said):
        evaluate_model("bundled:student", tmp_path / "out", replace(question, server=server))


def test_the_paper_s_ban_of_repeats_needs_this_process(question: Question, tmp_path: Path) -> None:
    paper = ask("gsm8k", "paper", None, question.data, 12, "auto", "float32")
    with pytest.raises(RunError, match="bans repeated n-grams.*--profile clean"):
        evaluate_model(
            "bundled:student", tmp_path / "out", replace(paper, server=Server(url="http://a:1"))
        )


def test_a_run_has_more_models_than_a_server(question: Question, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="warmup-distill evaluate .*distill --suite gsm8k --server"):
        evaluate_run(tmp_path, replace(question, server=Server(url="http://a:1")))
