"""Models that end, pad and begin in unusual ways."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_model
from datasets import Dataset
from test_training import ROWS, arguments
from tokenizers import processors

from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.chat import encode_prompt
from warmup_distill.models.loading import load_tokenizer
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.training.distill import DistillTrainer

PROMPTS, STREAMS = [[5, 6, 7], [8]], [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_any_of_several_ends_of_sequence_ends_a_completion() -> None:
    model = random_model(1)
    several = Vocabulary(size=40, eos_ids=frozenset(range(1, 20)), pad_id=0)
    samples = TransformersEngine(model, model, several, 512).sample(
        PROMPTS, STREAMS, max_new_tokens=30, temperature=1.0
    )
    ends = set()
    for drawn in (one for group in samples for one in group):
        assert not set(drawn.ids[:-1]) & several.eos_ids
        assert (drawn.ids[-1] in several.eos_ids) == (drawn.finish_reason == "eos")
        ends |= {drawn.ids[-1]} & several.eos_ids
    assert len(ends) > 1


@pytest.mark.parametrize("pad_id", [0, 1])
def test_padding_that_equals_end_of_sequence_changes_nothing(pad_id: int, tmp_path: Path) -> None:
    vocabulary = Vocabulary(size=40, eos_ids=frozenset({1}), pad_id=pad_id)
    other = Vocabulary(size=40, eos_ids=frozenset({1}), pad_id=0)
    results: list[Any] = []
    for one in (vocabulary, other):
        engine = TransformersEngine(random_model(1), random_model(2), one, 64)
        samples = engine.sample(PROMPTS, STREAMS, max_new_tokens=20, temperature=1.0)
        trainer = DistillTrainer(
            model=random_model(1),
            teacher=random_model(2),
            vocabulary=one,
            args=arguments(tmp_path, 4, 1),
            train_dataset=Dataset.from_list(ROWS),
        )
        trainer.train()
        loss = next(line["loss"] for line in trainer.state.log_history if "loss" in line)
        results.append(([[s.ids for s in group] for group in samples], loss))
    assert results[0] == results[1]


def test_a_beginning_of_sequence_comes_once() -> None:
    """A template that writes it, on a tokenizer that adds it by itself."""
    tokenizer = load_tokenizer("bundled:student")
    tokenizer.bos_token = "<|user|>"
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", bos)]
    )
    assert tokenizer("hi")["input_ids"].count(bos) == 1  # it does add it
    ids = encode_prompt(tokenizer, "hi", "chat")
    assert ids.count(bos) == 1 and ids[0] == bos
    assert torch.tensor(encode_prompt(tokenizer, "hi", "text")).eq(bos).sum() == 1
