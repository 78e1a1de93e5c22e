"""Reading rows: every way in which a file can be wrong has its own message."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warmup_distill.data.sources import read_rows
from warmup_distill.errors import DataError
from warmup_distill.recipe import Source

ROWS = [{"q": f"question {i}", "a": f"answer {i}", "id": f"row-{i}"} for i in range(5)]


def source(path: Path, **more: object) -> Source:
    return Source(file=path, prompt_column="q", reference_column="a", **more)  # type: ignore[arg-type]


def jsonl(folder: Path, *lines: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_jsonl_json_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    lines = jsonl(tmp_path, *map(json.dumps, ROWS))
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    first, second, third = (
        read_rows(source(path))
        for path in (lines, tmp_path / "rows.json", tmp_path / "rows.parquet")
    )
    assert first == second == third
    assert (first[1].text, first[1].reference, first[1].row_id) == (
        "question 1",
        "answer 1",
        "row-1",
    )


def test_skip_and_limit_count_rows(tmp_path: Path) -> None:
    rows = read_rows(source(jsonl(tmp_path, *map(json.dumps, ROWS)), skip=1, limit=2))
    assert [row.row_id for row in rows] == ["row-1", "row-2"]


def test_a_line_separator_inside_a_string_does_not_cut_the_row(tmp_path: Path) -> None:
    line = json.dumps({"q": "one\u2028two", "a": "x"}, ensure_ascii=False)
    (row,) = read_rows(source(jsonl(tmp_path, line)))
    assert row.text == "one\u2028two"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"q": "x", "a": "y"}', '{"q": '], r"rows.jsonl:2: expected JSON"),
        (['{"q": "x"}'], r"rows.jsonl:1: expected a column `a`, but the columns are q"),
        (['{"q": "", "a": "y"}'], r"rows.jsonl:1: the prompt column `q` is empty"),
        (['{"q": null, "a": "y"}'], r"rows.jsonl:1: the prompt column `q` is empty"),
        (['{"q": ["x"], "a": "y"}'], r"rows.jsonl:1: expected text in column `q`"),
        (['["x"]'], r"rows.jsonl:1: expected an object"),
        ([], r"expected rows in .*rows.jsonl"),
        (['{"q": "x", "a": "y", "id": 1}'] * 2, r"the id 1 is given twice"),
    ],
)
def test_each_fault_is_named_with_its_place(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(source(jsonl(tmp_path, *lines)))


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl, but there is none"):
        read_rows(source(tmp_path / "nowhere.jsonl"))
    (tmp_path / "rows.txt").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected a \.jsonl, \.json or \.parquet file"):
        read_rows(source(tmp_path / "rows.txt"))


def test_bytes_that_are_no_utf8_and_no_parquet_are_named(tmp_path: Path) -> None:
    for name, message in (("rows.jsonl", "expected UTF-8"), ("rows.parquet", "read as Parquet")):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(DataError, match=message):
            read_rows(source(tmp_path / name))


def test_the_bundled_problems_are_rows_with_solution_and_answer() -> None:
    (row,) = read_rows(Source(dataset="bundled:problems", split="test", limit=1))
    assert row.reference is not None and row.reference.endswith(f"#### {row.answer}")
    with pytest.raises(DataError, match="splits train, dev, test"):
        read_rows(Source(dataset="bundled:problems", split="all", limit=1))
