"""On-policy data: what the student draws, how often, and DistiLLM's schedule and buffer."""

from pathlib import Path
from typing import Any

import naive
import pytest
import torch
from conftest import random_model
from datasets import Dataset
from test_training import ROWS, arguments

from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe.distillation import AdaptiveSection
from warmup_distill.training.completions import (
    AdaptiveShare,
    StudentCompletions,
    StudentShare,
    mean_cross_entropy,
    prompts_of,
)
from warmup_distill.training.distill import DistillTrainer, collate_completions
from warmup_distill.tree.model import TreeModel

PAIRS = [(row["prompt_ids"], row["completion_ids"]) for row in ROWS]


def completions(vocabulary: Vocabulary, **settings: Any) -> StudentCompletions:
    student = TreeModel(random_model(1), vocabulary)
    return StudentCompletions(student, StudentShare(max_new_tokens=6, **settings))


def rows_of(batch: dict[str, torch.Tensor]) -> list[tuple[list[int], list[int]]]:
    counts = batch["completion_lengths"].tolist()
    drawn = [ids.tolist() for ids in torch.split(batch["targets"], counts)]
    return list(zip(prompts_of(batch), drawn, strict=True))


def test_a_packed_batch_gives_its_rows_back() -> None:
    assert rows_of(collate_completions(ROWS)) == PAIRS


def test_drawn_completions_are_the_student_s_and_depend_on_the_step(
    vocabulary: Vocabulary,
) -> None:
    ours = completions(vocabulary, share=1.0, temperature=0.0)
    (batch,) = ours.of_step([collate_completions(ROWS)], step=3, progress=0.0)
    for prompt, drawn in rows_of(batch):
        for place, token in enumerate(drawn):
            logits = naive.completion_logits(ours.student.model, prompt, drawn[: place + 1])[-1]
            assert token == logits.argmax().item()  # greedy
        assert len(drawn) == 6 or drawn[-1] == 1
    sampled = completions(vocabulary, share=1.0)
    first, again, later = (
        rows_of(sampled.of_step([collate_completions(ROWS)], step, 0.0)[0]) for step in (0, 0, 1)
    )
    assert first == again != later


def test_a_share_of_passes_is_the_student_s(vocabulary: Vocabulary) -> None:
    ours = completions(vocabulary, share=0.25)
    batch = collate_completions(ROWS[:1])
    found = [
        one is not batch for step in range(100) for one in ours.of_step([batch] * 4, step, 0.0)
    ]
    assert 0.18 < sum(found) / len(found) < 0.32  # 400 draws: a standard error of 2.2 points


def test_the_adaptive_share_rises_with_the_validation_loss() -> None:
    adaptive = AdaptiveShare(section=AdaptiveSection(tolerance=0.1, increase=0.3))
    shares = []
    for loss in (2.0, 1.5, 2.05, 2.1, 2.15, 2.25, 9.0, 20.0, 30.0):
        adaptive.validated(loss)
        shares.append(round(adaptive.share, 3))
    # 2.1 is 0.1 above the mark 2.0 and becomes the next mark
    assert shares == [0.0, 0.0, 0.0, 0.3, 0.3, 0.6, 0.9, 1.0, 1.0]


@pytest.mark.parametrize(
    ("replay", "expected"), [("decreasing", 0.6), ("constant", 0.4), ("increasing", 0.2)]
)
def test_a_full_buffer_takes_over_as_the_replay_says(replay: Any, expected: float) -> None:
    adaptive = AdaptiveShare(section=AdaptiveSection(start=0.8, capacity=2, replay=replay))
    assert adaptive.fresh_share(0.25) == 0.8  # not full yet
    adaptive.buffer.extend([([1], [2])] * 3)
    assert len(adaptive.buffer) == 2
    assert adaptive.fresh_share(0.25) == pytest.approx(expected)


def test_replayed_rows_come_from_the_buffer(vocabulary: Vocabulary) -> None:
    section = AdaptiveSection(start=1.0, capacity=4, replay="increasing", validation_steps=1000)
    ours = completions(vocabulary, adaptive=section, validation=PAIRS)
    fresh = rows_of(ours.of_step([collate_completions(ROWS)], 1, progress=0.0)[0])
    replayed = rows_of(ours.of_step([collate_completions(ROWS[:2])], 2, progress=0.0)[0])
    assert len(replayed) == 2 and all(row in fresh for row in replayed)


def test_the_validation_loss_is_the_mean_over_all_tokens(vocabulary: Vocabulary) -> None:
    model = random_model(1)
    with torch.no_grad():
        values = torch.cat([naive.logprobs(model, *row) for row in PAIRS])
    found = mean_cross_entropy(TreeModel(model, vocabulary), PAIRS)
    assert found == pytest.approx(-values.mean().item(), abs=1e-5)


@pytest.mark.parametrize("split", [(4, 1), (2, 2)])
def test_the_loss_of_drawn_completions_is_their_mean_over_all_tokens(
    split: tuple[int, int], vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """On-policy reverse KL of the first step, against separate sequences."""
    trainer = DistillTrainer(
        model=random_model(1),
        teacher=random_model(2),
        vocabulary=vocabulary,
        objective="reverse_kl",
        student_share=StudentShare(share=1.0, max_new_tokens=6),
        args=arguments(tmp_path, *split),
        train_dataset=Dataset.from_list(ROWS),
    )
    seen: list[dict[str, torch.Tensor]] = []
    original = trainer.completions.of_step
    trainer.completions.of_step = lambda *a: seen.extend(found := original(*a)) or found
    trainer.train()
    values = []
    for prompt, drawn in (row for batch in seen for row in rows_of(batch)):
        q, p = (
            naive.completion_logits(model, prompt, drawn).log_softmax(-1)
            for model in (random_model(1), random_model(2))
        )
        values.append((q.exp() * (q - p)).sum(-1))
    (line,) = [line for line in trainer.state.log_history if "loss" in line]
    assert line["loss"] == pytest.approx(torch.cat(values).mean().item(), abs=1e-4)
    assert line["student_share"] == 1.0
