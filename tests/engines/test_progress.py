"""Progress: tokens are counted as they are drawn and checked, and bars end where they should."""

import logging
import re

import pytest
from conftest import random_model

from warmup_distill.engines import transformers
from warmup_distill.engines.pace import Plain
from warmup_distill.engines.progress import Progress, StepProgress
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.foreign.libraries import AboveBars
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.plain import Habits, PlainModel

PROMPTS = [[5, 6, 7], [8, 9, 10, 11], [20]]
STREAMS = [[1, 2], [3, 4], [5, 6]]
LONGEST = 12


@pytest.mark.parametrize("path", ["tree", "plain"])
def test_every_token_is_counted_while_a_batch_is_at_work(
    path: str, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "plain":
        monkeypatch.setattr(
            transformers, "packed_model", lambda model, known: PlainModel(model, known, Habits())
        )
    heard: list[int] = []
    engine = TransformersEngine(
        random_model(1), random_model(2), vocabulary, 10_000, advance=heard.append
    )
    assert isinstance(engine.student, PlainModel) == (path == "plain")
    assert len(engine.batches(PROMPTS, 2, LONGEST)) == 1
    samples = engine.sample(PROMPTS, STREAMS, max_new_tokens=LONGEST, temperature=1.0)
    lengths = [len(one.ids) for group in samples for one in group]
    assert sum(heard) == sum(lengths)
    assert len(heard) >= max(lengths) / Plain.looks_every  # at every look until the longest ends
    heard.clear()
    checks = engine.check_and_continue(
        PROMPTS, samples, STREAMS, margin_threshold=0.5, max_new_tokens=LONGEST,
        temperature=1.0, stop_at_mismatch=False,
    )  # fmt: skip
    drawn = [len(one.continuation.ids) for group in checks for one in group if one.continuation]
    assert sum(heard) == sum(lengths) + sum(drawn) <= 2 * LONGEST * len(lengths)
    assert len(heard) >= max(drawn) / Plain.looks_every > 0


def last(shown: str) -> str:
    """A bar as it was seen last."""
    return re.split(r"[\r\n]", shown.strip())[-1]


def test_a_bar_ends_at_its_end_though_completions_ended_early(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("rollouts", 2 * 100) as progress:
        progress.advance(30)
        progress.settle(100)
        assert " 23%" in last(capsys.readouterr().err)  # 30 of 130, the most there can be now
        progress.advance(20)
        progress.settle(100)
    assert "rollouts: 100%" in last(capsys.readouterr().err)


def test_a_bar_without_work_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("evaluate", 0) as progress:
        progress.settle(0)
    assert capsys.readouterr().err == ""


def test_the_bar_of_a_training_shows_steps_and_loss_and_goes_back_with_the_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with StepProgress("warmup") as progress:
        assert capsys.readouterr().err == "", "there is none before a step is heard of"
        progress.reached(4, 10, None)
        progress.reached(8, 10, 0.51234)
        shown = last(capsys.readouterr().err)
        assert "8/10" in shown and "loss=0.5123" in shown
        progress.reached(4, 10, 0.7)  # a worker was lost: on from the last checkpoint
        progress.reached(10, 10, 0.4)
    assert "100%" in last(capsys.readouterr().err)


def test_a_log_line_stands_above_a_bar_and_not_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("a", logging.WARNING, "", 0, "a line", None, None)
    with Progress("rollouts", 100) as progress:
        progress.advance(30)
        AboveBars().emit(record)
    lines = re.split(r"[\r\n]", capsys.readouterr().err)
    assert "a line" in lines and any("30%" in line for line in lines)
