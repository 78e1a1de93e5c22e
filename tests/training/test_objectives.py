"""Every objective and every data policy learns on the bundled pair."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from test_training import arguments

from warmup_distill.bundled.problems import draw
from warmup_distill.models.chat import encode_prompt, encode_reference
from warmup_distill.models.loading import load_model, load_tokenizer
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe.distillation import OBJECTIVES, AdaptiveSection
from warmup_distill.training.completions import StudentShare
from warmup_distill.training.distill import DistillTrainer, collate_completions


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    tokenizer = load_tokenizer("bundled:student")
    return [
        {
            "prompt_ids": encode_prompt(tokenizer, problem.question, "chat"),
            "completion_ids": encode_reference(tokenizer, problem.solution),
        }
        for problem in islice(draw("train", seed=5), 16)
    ]


def trainer(rows: list[dict[str, Any]], folder: Path, steps: int, **settings: Any) -> Any:
    tokenizer = load_tokenizer("bundled:student")
    eos = frozenset({tokenizer.eos_token_id})
    return DistillTrainer(
        model=load_model("bundled:student"),
        teacher=load_model("bundled:teacher"),
        vocabulary=Vocabulary(size=len(tokenizer), eos_ids=eos, pad_id=tokenizer.pad_token_id),
        args=arguments(folder, 16, 1, max_steps=steps, learning_rate=1e-3),
        train_dataset=Dataset.from_list(rows),
        **settings,
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_falls_on_what_it_is_trained_on(
    objective: str, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    distilling = trainer(rows, tmp_path, 8, objective=objective)
    batch = collate_completions(rows)
    with torch.no_grad():
        before = distilling.compute_loss(distilling.model, batch).item()
    distilling.train()
    if distilling.schedule:
        assert 0.4 < distilling.schedule.t <= 1.0  # it moved
        distilling.schedule.t = 0.4  # the same target as before
    with torch.no_grad():
        after = distilling.compute_loss(distilling.model, batch).item()
    assert 0 < after < before


@pytest.mark.parametrize(
    "policy",
    [
        {"share": 1.0},
        {"share": 0.5},
        {"adaptive": AdaptiveSection(start=0.5, validation_steps=2, capacity=16)},
    ],
)
def test_every_data_policy_trains(
    policy: dict[str, Any], rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    held_out = [(row["prompt_ids"], row["completion_ids"]) for row in rows[12:]]
    share = StudentShare(max_new_tokens=24, validation=held_out, **policy)
    distilling = trainer(rows[:12], tmp_path, 4, objective="reverse_kl", student_share=share)
    distilling.train()
    losses = [line["loss"] for line in distilling.state.log_history if "loss" in line]
    assert len(losses) == 4 and all(0 < loss < 10 for loss in losses)
