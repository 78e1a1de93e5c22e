"""Predictions that another program made, whatever its rows hold."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warmup_distill.errors import DataError
from warmup_distill.scoring.files import score_file


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_s_rows_are_scored_one_by_one(tmp_path: Path) -> None:
    file = write(
        tmp_path / "made.jsonl",
        [
            {"id": "a", "prediction": "so\n#### 1,200", "answer": "1200"},
            {"id": 7, "prediction": "so\n#### 3", "reference": "2+2=4\n#### 4"},
            {"prediction": "no idea", "answer": 4},
        ],
    )
    found = [(row.id, row.value, row.extracted) for row in score_file(file, "gsm8k_strict")]
    assert found == [("a", 100, "1,200"), ("7", 0, "3"), ("made-000003", 0, None)]


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        (4, "4"),
        (4.0, "4"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (1e-7, "0.0000001"),
        (1e20, "100000000000000000000"),
        (2**70, str(2**70)),
        ("4.0", "4.0"),
    ],
)
@pytest.mark.parametrize("metric", ["gsm8k_strict", "gsm8k_flexible", "boxed", "exact_match"])
def test_a_number_is_the_text_that_it_is_written_as(
    answer: Any, written: str, metric: str, tmp_path: Path
) -> None:
    prediction = written if metric == "exact_match" else f"#### {written}"
    row = {"prediction": prediction, "answer": answer}
    (scored,) = score_file(write(tmp_path / "made.jsonl", [row]), metric)
    assert scored.value == 100


def test_numbers_of_parquet_files_are_numbers(tmp_path: Path) -> None:
    columns = {"prediction": ["#### 4", "#### 2.5"], "answer": [Decimal("4.00"), Decimal("2.50")]}
    pq.write_table(pa.table(columns), tmp_path / "made.parquet")
    values = [row.value for row in score_file(tmp_path / "made.parquet", "boxed")]
    assert values == [100, 100]


def test_null_and_nan_are_nothing(tmp_path: Path) -> None:
    nothing = float("nan")
    rows = [
        {"id": None, "prediction": "a", "reference": nothing, "references": None, "answer": "a"},
        {"id": nothing, "prediction": "a", "references": [nothing, "a"]},
        {"prediction": "4", "references": [3, 4.0]},
        {"prediction": "a", "references": nothing, "reference": "a", "answer": ""},
    ]
    found = list(score_file(write(tmp_path / "made.jsonl", rows), "exact_match"))
    assert [row.value for row in found] == [100] * 4
    assert [row.id for row in found] == [f"made-00000{number}" for number in (1, 2, 3, 4)]


def test_an_empty_prediction_is_a_wrong_answer_and_not_a_mistake(tmp_path: Path) -> None:
    file = write(tmp_path / "made.jsonl", [{"prediction": "", "answer": "4"}])
    for metric in ("boxed", "gsm8k_strict", "rouge_l", "exact_match", "math_verify"):
        assert [row.value for row in score_file(file, metric)] == [0]


def test_an_id_given_twice_names_the_first_row_alone(tmp_path: Path) -> None:
    rows = [{"id": name, "prediction": "a", "answer": "a"} for name in ("x", 1, "x", 1.0, "y")]
    found = [row.id for row in score_file(write(tmp_path / "made.jsonl", rows), "exact_match")]
    assert found == ["x", "1", "made-000003", "made-000004", "y"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"reference": "a"}, "expected a column `prediction`"),
        ({"prediction": None, "reference": "a"}, "expected a column `prediction`"),
        ({"prediction": "a"}, "expected `reference`, `references` or `answer`"),
        ({"prediction": "a", "answer": None}, "expected `reference`, `references` or `answer`"),
        ({"prediction": "a", "answer": float("nan")}, "expected `reference`, `references`"),
        (
            {"prediction": ["a"], "reference": "a"},
            "expected text in column `prediction`, or a number, got \\['a'\\]",
        ),
        (
            {"prediction": "a", "answer": True},
            "expected text in column `answer`, or a number, got True",
        ),
        (
            {"prediction": "a", "answer": float("inf")},
            "expected text in column `answer`, or a finite number, got inf",
        ),
        ({"prediction": "a", "references": "a"}, "expected a list of texts"),
        ({"prediction": "a", "references": [["a"]]}, "expected text in column `references`"),
        ({"id": ["a"], "prediction": "a", "answer": "a"}, "expected text in column `id`"),
        ({"prediction": "\ud800", "answer": "a"}, "column `prediction` is not valid Unicode"),
        ("text", "expected an object with named columns"),
    ],
)
def test_a_row_of_another_form_is_named(row: Any, message: str, tmp_path: Path) -> None:
    good = {"prediction": "a", "reference": "a"}
    file = write(tmp_path / "made.jsonl", [good, row])
    with pytest.raises(DataError, match=message) as error:
        list(score_file(file, "rouge_l"))
    assert f"{file}:2" in str(error.value)


def test_a_file_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected rows in"):
        list(score_file(write(tmp_path / "made.jsonl", []), "rouge_l"))
