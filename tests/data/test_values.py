"""What a person puts into a column is what the models read, or one message says why not."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warmup_distill.data.sources import Row, read_rows
from warmup_distill.data.values import text_of
from warmup_distill.errors import DataError
from warmup_distill.recipe import Source


def rows(folder: Path, *values: Any, **named: Any) -> list[Row]:
    """Rows of a file, as a source with these fields reads them."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in values), encoding="utf-8")
    return read_rows(Source(file=path, **({"prompt_column": "q"} | named)))


ALPACA = {"instruction": "Add them.", "input": "1 and 1", "output": "2"}


def test_an_input_stands_below_its_instruction(tmp_path: Path) -> None:
    named = {"prompt_column": "instruction", "input_column": "input", "reference_column": "output"}
    found = rows(tmp_path, ALPACA, ALPACA | {"input": "  "}, ALPACA | {"input": None}, **named)
    assert [row.text for row in found] == ["Add them.\n\n1 and 1", "Add them.", "Add them."]


@pytest.mark.parametrize(
    ("row", "column", "lost"),
    [
        (ALPACA, "instruction", "input"),
        (ALPACA, "input", "instruction"),
        ({"question": "Why?", "context": "It rained."}, "question", "context"),
        ({"q": "Which?", "choices": ["a", "b"]}, "q", "choices"),
        ({"q": "And 2?", "history": [["1?", "one"]]}, "q", "history"),
        ({"q": "Hi", "System": "Be a pirate."}, "q", "System"),
        ({"q": "Double it.", "input": 0}, "q", "input"),
        ({"q": "What is the capital?", "context": "cap"}, "q", "context"),
        ({"q": "Summarise.", " Article": "It rained."}, "q", " Article"),
    ],
)
def test_a_part_of_the_prompt_in_another_column_is_not_lost(
    row: dict[str, Any], column: str, lost: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"rows.jsonl:1: the column `{lost}` looks like a part of"):
        rows(tmp_path, row, prompt_column=column)
    assert rows(tmp_path, row, prompt_column=column, ignore_columns=[lost])[0].text == row[column]


@pytest.mark.parametrize("nothing", ["", " \n", None, [], {}, float("nan")])
def test_a_column_with_nothing_in_it_is_no_part_of_the_prompt(nothing: Any, tmp_path: Path) -> None:
    assert rows(tmp_path, {"q": "x", "input": nothing})[0].text == "x"


def test_a_prompt_that_repeats_the_column_has_lost_nothing(tmp_path: Path) -> None:
    row = {"q": "Add them.\n\n1 and 1", "input": "1 and 1", "instruction": "Add them."}
    assert rows(tmp_path, row)[0].text == row["q"]


@pytest.mark.parametrize("column", ["reference", "answer"])
@pytest.mark.parametrize("empty", ["", " \n\t", None, float("nan")])
def test_an_empty_reference_or_answer_is_none(column: str, empty: Any, tmp_path: Path) -> None:
    named = {f"{column}_column": "a"}
    found = rows(tmp_path, {"q": "x", "a": empty}, {"q": "y", "a": "z"}, **named)
    assert [getattr(row, column) for row in found] == [None, "z"]
    with pytest.raises(DataError, match=rf"`a` is empty in all 2 rows. .* {column}_column"):
        rows(tmp_path, {"q": "x", "a": empty}, {"q": "y", "a": empty}, **named)


@pytest.mark.parametrize(
    ("number", "text"),
    [(4, "4"), (4.0, "4"), (-3.0, "-3"), (0.5, "0.5"), (2.1, "2.1"), (-0.0, "0"), (120.0, "120"),
     (1e21, "1" + "0" * 21), (1e-7, "0.0000001"), (12345678.25, "12345678.25"),
     (int("123456789" * 3), "123456789" * 3)],
)  # fmt: skip
def test_a_number_is_written_as_people_write_it(number: Any, text: str, tmp_path: Path) -> None:
    named = {"answer_column": "a", "reference_column": "r"}
    (row,) = rows(tmp_path, {"q": number, "a": number, "r": number, "id": number}, **named)
    assert row == Row(row_id=text, text=text, reference=text, answer=text)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), True, False, ["x"], {"x": 1}])
@pytest.mark.parametrize("column", ["q", "a", "r", "input", "id"])
def test_what_is_no_text_is_refused_with_its_place(value: Any, column: str, tmp_path: Path) -> None:
    named = {"answer_column": "a", "reference_column": "r", "input_column": "input"}
    good = {"q": "x", "a": "y", "r": "z", "input": "w", "id": "v"}
    with pytest.raises(DataError, match=rf"rows.jsonl:2: expected text in column `{column}`, or"):
        rows(tmp_path, good | {"id": "u"}, good | {column: value}, **named)


@pytest.mark.parametrize("empty", ["", " \n", None, float("nan")])
def test_a_prompt_with_nothing_in_it_is_refused(empty: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl:2: the prompt column `q` is empty"):
        rows(tmp_path, {"q": "x"}, {"q": empty})


@pytest.mark.parametrize(
    ("number", "text"),
    [(np.float32(0.1), "0.1"), (np.float16(0.1), "0.1"), (np.int64(4), "4"),
     (np.float32("nan"), None), (np.str_("four"), "four")],
)  # fmt: skip
def test_a_number_of_numpy_has_the_digits_of_its_own_dtype(number: Any, text: str | None) -> None:
    assert text_of(number, "here", "answer") == text


def test_rows_without_an_id_are_numbered(tmp_path: Path) -> None:
    ids = (None, "", float("nan"), 7.0)
    given = [{"q": "x"}, *({"q": "x", "id": one} for one in ids)]
    assert [row.row_id for row in rows(tmp_path, *given)] == [
        "rows-000001", "rows-000002", "rows-000003", "rows-000004", "7",
    ]  # fmt: skip


@pytest.mark.parametrize("second", [1, 1.0, "1"])
def test_ids_that_are_written_alike_are_one(second: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the id 1 is given twice"):
        rows(tmp_path, {"q": "x", "id": 1}, {"q": "y", "id": second})


def test_a_column_of_whole_numbers_with_gaps_is_read_from_parquet(tmp_path: Path) -> None:
    """Which pandas writes as decimal numbers; and one of exact decimals."""
    table = pa.table(
        {
            "q": ["x", "y"],
            "a": [4.0, None],
            "id": [1.0, 2.0],
            "r": [Decimal("2.50"), Decimal("3" * 30)],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    named = {"prompt_column": "q", "answer_column": "a", "reference_column": "r"}
    first, second = read_rows(Source(file=tmp_path / "rows.parquet", **named))
    assert (first.row_id, first.answer, first.reference) == ("1", "4", "2.5")
    assert (second.row_id, second.answer, second.reference) == ("2", None, "3" * 30)


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32()])
def test_a_short_float_of_parquet_has_the_digits_that_were_written(
    kind: pa.DataType, tmp_path: Path
) -> None:
    short = kind.to_pandas_dtype()
    table = {"prompt": ["a", "b"], "answer": pa.array([short(0.1), None], kind)}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    source = Source(file=tmp_path / "rows.parquet", prompt_column="prompt", answer_column="answer")
    assert [row.answer for row in read_rows(source)] == ["0.1", None]
