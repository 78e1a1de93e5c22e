"""A batch of the distillation in several packed rows: the same sequences, each whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_training import NUMBERED, ROWS, distill_trainer, distill_trainer_by_rows, signalled

from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.training.distill import collate_completions
from warmup_distill.tree.pack import pack_completions, some_of

IDS = st.lists(st.integers(0, 99), min_size=1, max_size=6)


@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=6), st.data(), st.booleans())
def test_some_sequences_of_a_packed_row_are_as_if_packed_by_themselves(
    rows: list[tuple[list[int], list[int]]], data: st.DataObject, to_the_end: bool
) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    chosen = order[: data.draw(st.integers(1, len(rows)))]
    whole = pack_completions(*zip(*rows, strict=True), to_the_end=to_the_end)
    found = some_of(whole, chosen)
    some = [rows[i] for i in chosen]
    expected = pack_completions(*zip(*some, strict=True), to_the_end=to_the_end)
    assert found.keys() == expected.keys()
    assert all(found[name].equal(values) for name, values in expected.items())


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "taid", "options": {"momentum": 0.5, "rate": 0.1}},
        {"objective": "reverse_kl", "cross_entropy_weight": 0.3},
        {"objective": "sft", "teacher": None},
    ],
)
def test_every_loss_of_several_steps_is_that_of_undivided_batches(
    settings: dict[str, Any], vocabulary: Vocabulary, tmp_path: Path
) -> None:
    logs, schedules = [], []
    for build in (distill_trainer, distill_trainer_by_rows):
        trainer = build(vocabulary, tmp_path, (4, 1), **settings)
        trainer.args.max_steps, trainer.args.learning_rate = 4, 1e-3
        trainer.train()
        logs.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
        schedules.append(trainer.schedule.t if trainer.schedule else 0.0)
    assert len(logs[0]) == 4
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)
    assert schedules[1] == pytest.approx(schedules[0], rel=1e-4)


def test_signals_on_disk_follow_their_rows(vocabulary: Vocabulary, tmp_path: Path) -> None:
    trainer = signalled(vocabulary, tmp_path, "hidden", NUMBERED, row_tokens=8)
    batch = collate_completions(NUMBERED)
    whole = trainer.summed_loss(batch)
    rows = trainer.rows_of(batch)
    assert len(rows) == 3
    torch.testing.assert_close(sum(trainer.summed_loss(row) for row in rows), whole)


def test_a_batch_that_fits_is_left_as_it_is(vocabulary: Vocabulary, tmp_path: Path) -> None:
    batch = collate_completions(ROWS)
    assert distill_trainer(vocabulary, tmp_path, (4, 1)).rows_of(batch)[0] is batch
