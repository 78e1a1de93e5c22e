"""The suites: prompts to the byte, decoding to the token, results that say what they are."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_model
from transformers import NoRepeatNGramLogitsProcessor

from warmup_distill.engines.repeats import NoRepeat
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import DataError, RunError
from warmup_distill.models.loading import load_tokenizer
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.scoring.metrics import METRICS, Gold
from warmup_distill.store.artifacts import read_json, read_records
from warmup_distill.suites.catalogue import SEVEN, SUITES, SuiteRow, read_suite
from warmup_distill.suites.evaluating import SuitePrediction, response
from warmup_distill.suites.evaluation import ask, evaluate_model
from warmup_distill.suites.profiles import PROFILES, alpaca, encode, renderer_of


def row(prompt: str, input: str | None = None) -> SuiteRow:
    return SuiteRow(row_id="r", prompt=prompt, input=input, gold=Gold(references=["x"]))


def test_alpaca_s_wording_to_the_byte() -> None:
    assert alpaca(row("Name a fruit.")) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName a fruit.\n\n### Response:\n"
    )
    assert alpaca(row("Shorten it.\n\nA long\n\ntext", "A long\n\ntext")) == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nShorten it.\n\n### Input:\nA long\n\ntext\n\n### Response:\n"
    )


def test_profiles_ask_as_they_say() -> None:
    tokenizer = load_tokenizer("bundled:student")
    paper, clean = PROFILES["paper"], PROFILES["clean"]
    ask = SUITES["gsm8k"].ask
    plain = encode(renderer_of(paper, tokenizer), paper, row("How many?"), ask)
    assert tokenizer.decode(plain) == alpaca(row("How many?"))
    chat = encode(renderer_of(clean, tokenizer), clean, row("How many?"), ask)
    asked = "How many?\nPlease reason step by step, and put your final answer within \\boxed{}."
    assert tokenizer.decode(chat) == f"<|user|>{asked}<|assistant|>"


def test_every_suite_names_metrics_that_exist_and_the_seven_have_all_sources() -> None:
    for name, suite in SUITES.items():
        assert set(suite.metrics) <= set(METRICS), name
    assert all(SUITES[name].files and SUITES[name].hub for name in SEVEN)


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def test_rows_come_from_a_folder_with_input_references_and_answer(tmp_path: Path) -> None:
    write(
        tmp_path / "s_ni.jsonl",
        [
            {"id": "1", "prompt": "Do.\n\nThis", "input": "This", "reference": "a",
             "references": ["a", "b"]},
            {"id": "2", "prompt": "Do.", "reference": "a", "answer": "5"},
        ],
    )  # fmt: skip
    rows, origin = read_suite("s_ni", tmp_path, None)
    assert origin == "s_ni.jsonl" and [r.row_id for r in rows] == ["1", "2"]
    assert rows[0].instruction == "Do." and rows[0].gold.references == ["a", "b"]
    assert rows[1].gold == Gold(references=["a"], answer="5")
    assert len(read_suite("s_ni", tmp_path, 1)[0]) == 1


def test_a_missing_file_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected gsm8k_test.jsonl in"):
        read_suite("gsm8k", tmp_path, None)
    write(tmp_path / "vicuna.jsonl", [{"id": "1", "prompt": "a"}])
    with pytest.raises(DataError, match="there is no reference"):
        read_suite("vicuna", tmp_path, None)
    with pytest.raises(DataError, match="expected suites from"):
        ask("gsm9k", "clean", None, None, None, 1000, "float32")


@pytest.mark.parametrize("size", [2, 3, 6])
def test_banned_tokens_are_those_of_transformers(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    ids = torch.randint(0, 3, (60,), generator=generator).tolist()
    ours = NoRepeat(size, ids[:20])
    theirs = NoRepeatNGramLogitsProcessor(size)
    for place in range(20, 60):
        scores = theirs(torch.tensor([ids[:place]]), torch.zeros(1, 3))
        assert sorted(set(ours.banned)) == scores[0].isneginf().nonzero().flatten().tolist()
        ours.append(ids[place])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_n_gram_is_drawn_twice(temperature: float, vocabulary: Vocabulary) -> None:
    model = random_model(1)
    engine = TransformersEngine(model, model, vocabulary, batch_tokens=4096)
    prompts = [[5, 6, 7, 5, 6], [9, 9, 9]]
    samples = engine.sample(
        prompts, [[1, 2, 3], [4, 5, 6]], max_new_tokens=60, temperature=temperature,
        no_repeat_ngram_size=2,
    )  # fmt: skip
    for prompt, group in zip(prompts, samples, strict=True):
        for drawn in group:
            whole = prompt + drawn.ids
            pairs = list(itertools.pairwise(whole))
            fresh = pairs[len(prompt) - 1 :]
            assert len(set(fresh)) == len(fresh)
            assert not set(fresh) & set(pairs[: len(prompt) - 1])


def test_a_response_is_cleaned_as_the_published_scripts_do() -> None:
    tokenizer = load_tokenizer("bundled:student")
    ids = tokenizer(" a<n>b <|endoftext|> c")["input_ids"]
    assert response(tokenizer, ids) == "a\nb"


def test_a_model_s_results_say_what_was_asked_and_are_not_computed_twice(tmp_path: Path) -> None:
    question = ask("problems", "clean", 20, None, None, 16384, "float32")
    (path,) = evaluate_model("bundled:teacher", tmp_path, question)
    result = read_json(path)
    assert result["asked"]["profile"]["template"] == "chat" and result["rows"] == 20
    assert result["scores"]["gsm8k_strict"]["mean"] >= 90  # its card says 100
    predictions = read_records(path.with_suffix(".parquet"), SuitePrediction)
    mean = sum(p.value for p in predictions) / 20
    assert result["scores"]["gsm8k_strict"]["mean"] == pytest.approx(mean)
    made = path.stat().st_mtime_ns
    assert evaluate_model("bundled:teacher", tmp_path, question) == [path]
    assert path.stat().st_mtime_ns == made
    other = ask("problems", "clean", 10, None, None, 16384, "float32")
    with pytest.raises(RunError, match="another question"):
        evaluate_model("bundled:teacher", tmp_path, other)


def test_the_paper_s_profile_averages_five_seeds_over_cut_prompts(tmp_path: Path) -> None:
    write(
        tmp_path / "dolly_eval.jsonl",
        [{"id": str(i), "prompt": "word " * 300, "reference": "word"} for i in range(2)],
    )
    question = ask("dolly", "paper", None, tmp_path, 8, 16384, "float32")
    (path,) = evaluate_model("bundled:student", tmp_path / "out", question)
    result = read_json(path)
    assert result["prompts_cut"] == 2 and result["completions"] == 10
    score = result["scores"]["rouge_l"]
    assert list(score["by_seed"]) == ["10", "20", "30", "40", "50"]
    assert score["mean"] == pytest.approx(sum(score["by_seed"].values()) / 5)
    # the echo: 300 words against 1, P = 1/300, R = 1, F = 2/301
    assert result["echo_of_the_prompt"]["mean"] == pytest.approx(100 * 2 / 301)


def test_suites_asked_together_give_the_predictions_of_each_alone(tmp_path: Path) -> None:
    write(
        tmp_path / "vicuna.jsonl",
        [{"id": str(i), "prompt": "How many? " * (i + 1), "reference": "a"} for i in range(3)],
    )
    together = ask("problems,vicuna", "clean", 5, tmp_path, 8, 16384, "float32")
    paths = evaluate_model("bundled:student", tmp_path / "together", together)
    for name, path in zip(("problems", "vicuna"), paths, strict=True):
        alone = ask(name, "clean", 5, tmp_path, 8, 16384, "float32")
        (other,) = evaluate_model("bundled:student", tmp_path / name, alone)
        ours, theirs = (
            read_records(one.with_suffix(".parquet"), SuitePrediction) for one in (path, other)
        )
        assert ours == theirs and read_json(path)["suite"] == name
    left = {path.name for path in (tmp_path / "together").iterdir()}
    assert left == {f"{name}-clean.{end}" for name in ("problems", "vicuna")
                    for end in ("json", "parquet")}  # fmt: skip


def test_a_prompt_that_does_not_fit_is_named(tmp_path: Path) -> None:
    write(tmp_path / "vicuna.jsonl", [{"id": "v1", "prompt": "word " * 900, "reference": "a"}])
    question = ask("vicuna", "clean", None, tmp_path, None, 16384, "float32")
    with pytest.raises(DataError, match=r"the prompt v1 has \d+ tokens"):
        evaluate_model("bundled:student", tmp_path / "out", question)


def test_a_prompt_that_does_not_fit_is_found_before_any_suite_is_evaluated(tmp_path: Path) -> None:
    write(tmp_path / "vicuna.jsonl", [{"id": "v1", "prompt": "word " * 900, "reference": "a"}])
    question = ask("problems,vicuna", "clean", 5, tmp_path, 8, 16384, "float32")
    with pytest.raises(DataError, match=r"the prompt v1 has \d+ tokens"):
        evaluate_model("bundled:student", tmp_path / "out", question)
    assert not list((tmp_path / "out").rglob("*.parquet"))
