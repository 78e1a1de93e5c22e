"""The bundled pair is what its cards say."""

import json
from functools import cache
from itertools import islice
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from warmup_distill.bundled.problems import Problem, draw
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.chat import decode_completion, encode_prompt
from warmup_distill.models.loading import BUNDLED
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.scoring.answers import is_right

LARGEST_PARAMETERS = {"teacher": 4_000_000, "student": 500_000}
names = pytest.mark.parametrize("name", ["teacher", "student"])


def card(name: str) -> dict[str, Any]:
    """The machine-readable part of a card."""
    return json.loads((BUNDLED / name / "card.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@cache
def held_out() -> list[Problem]:
    """The test problems, drawn again from their seed."""
    return list(islice(draw("test", seed=0), 2000))


def accuracy(name: str, temperature: float) -> float:
    model = AutoModelForCausalLM.from_pretrained(BUNDLED / name).eval()
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / name)
    eos = frozenset({tokenizer.eos_token_id})
    vocabulary = Vocabulary(size=len(tokenizer), eos_ids=eos, pad_id=tokenizer.pad_token_id)
    problems = held_out()
    samples = TransformersEngine(model, model, vocabulary, batch_tokens=65536).sample(
        [encode_prompt(tokenizer, problem.question, "chat") for problem in problems],
        [[stream(0, "evaluate", problem.problem_id)] for problem in problems],
        max_new_tokens=96,
        temperature=temperature,
    )
    right = [
        is_right(decode_completion(tokenizer, sample.ids), problem.answer)
        for problem, (sample,) in zip(problems, samples, strict=True)
    ]
    return 100 * sum(right) / len(right)


@names
@pytest.mark.parametrize(("decoding", "temperature"), [("greedy", 0.0), ("sampled", 1.0)])
def test_the_committed_weights_score_what_their_card_says(
    name: str, decoding: str, temperature: float
) -> None:
    # Another processor may round a rare near-tie the other way: a few of 2,000 problems.
    measured = accuracy(name, temperature)
    assert measured == pytest.approx(card(name)[decoding], abs=0.5)


@names
def test_the_models_are_small_stock_models_with_safe_weights(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(BUNDLED / name, use_safetensors=True)
    assert model.config.model_type == "llama"
    assert model.num_parameters() <= LARGEST_PARAMETERS[name]
    assert model.num_parameters() == card(name)["parameters"]


def test_the_pair_leaves_room_to_learn() -> None:
    teacher, student = card("teacher"), card("student")
    assert teacher["greedy"] >= 95
    assert 40 <= student["greedy"] <= 75
    assert student["sampled"] <= student["greedy"] - 20


def test_the_weights_are_at_most_8_mb() -> None:
    assert sum(p.stat().st_size for p in BUNDLED.rglob("*.safetensors")) <= 8_000_000


def test_end_of_sequence_is_not_padding() -> None:
    for name in ("teacher", "student"):
        tokenizer = AutoTokenizer.from_pretrained(BUNDLED / name)
        assert tokenizer.eos_token_id != tokenizer.pad_token_id
