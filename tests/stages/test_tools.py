"""Small tools: records on disk, random streams, answers, Rouge-L, statistics, margins."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_distill.engines.mismatch import find_mismatch
from warmup_distill.engines.randomness import keys_of, stream, uniforms
from warmup_distill.errors import RunError
from warmup_distill.records import Prompt, Rollout
from warmup_distill.scoring.answers import is_right
from warmup_distill.scoring.statistics import estimate
from warmup_distill.store.artifacts import (
    part_path,
    read_json,
    read_parts,
    read_records,
    write_json,
    write_parts,
    write_records,
)

ROLLOUT = Rollout(
    prompt_id="p", sample_index=3, completion_ids=[5, 1], student_logprobs=[-0.5, -0.25],
    teacher_logprobs=[-8.0], mismatch_index=0, margin=7.5, continuation_ids=[6],
    continuation_ref_logprobs=[-2.0], finish_reason="eos", continuation_finish_reason="length",
)  # fmt: skip


def prompt(number: int) -> Prompt:
    return Prompt(
        prompt_id=str(number), prompt_ids=[number], text="é\u2028", reference=None, answer=None
    )


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", Rollout, [ROLLOUT])
    assert read_records(tmp_path / "a.parquet", Rollout) == [ROLLOUT]


def test_parts_keep_the_order_and_an_empty_artifact_has_one_part(tmp_path: Path) -> None:
    records = [prompt(number) for number in range(25)]
    assert write_parts(tmp_path / "a", Prompt, records, rows_per_part=10) == 25
    assert list(read_parts(tmp_path / "a", Prompt)) == records
    assert len(list((tmp_path / "a").iterdir())) == 3
    assert write_parts(tmp_path / "b", Prompt, []) == 0
    assert part_path(tmp_path / "b", 0).exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": math.nan})
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="a.json"):
        read_json(tmp_path / "a.json")


def test_streams_differ_by_every_part_of_their_name() -> None:
    names = [(0, "a", "p", 0), (1, "a", "p", 0), (0, "b", "p", 0), (0, "a", "q", 0)]
    assert len({stream(*name) for name in names}) == 4
    assert stream(0, "a", "p", 0) == stream(0, "a", "p", 0)


def test_uniforms_are_uniform_and_independent_of_company() -> None:
    keys = keys_of([stream("u", i) for i in range(20_000)])
    for position in (0, 1, 77):
        numbers = uniforms(keys, position).numpy()
        assert ((numbers >= 0) & (numbers < 1)).all()
        shares = np.histogram(numbers, bins=10, range=(0, 1))[0] / len(keys)
        assert np.abs(shares - 0.1).max() < 5 * math.sqrt(0.1 * 0.9 / len(keys))
        assert float(uniforms(keys[5], position)) == numbers[5]
    assert abs(np.corrcoef(uniforms(keys, 0), uniforms(keys, 1))[0, 1]) < 0.03


def test_answers_compare_with_numbers_and_with_worked_solutions() -> None:
    assert is_right("so\n#### 1200", "1,200")
    assert is_right("so\n#### 72", "48+24 = <<48+24=72>>72\n#### 72")
    assert not is_right("the answer is 72", "72")


def test_standard_error_by_hand() -> None:
    # mean 50; sample variance ((−50)² · 2 + 50² · 2) / 3 = 3333.3; √(3333.3 / 4) = 28.87
    result = estimate([0.0, 100.0, 0.0, 100.0])
    assert (result.mean, result.standard_error) == (50.0, pytest.approx(28.867, abs=1e-3))


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0)), min_size=1), st.floats(0.1, 10))
def test_the_mismatch_is_the_first_margin_above_the_threshold(
    tokens: list[tuple[float, float]], threshold: float
) -> None:
    student, teacher = zip(*tokens, strict=True)
    index, margin = find_mismatch(student, teacher, threshold)
    before = [q - p for q, p in tokens[:index]]
    assert all(value <= threshold for value in before)
    if index is None:
        assert margin == max(before)
    else:
        assert margin == student[index] - teacher[index] > threshold
