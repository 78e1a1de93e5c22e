"""Files of rows, whatever their bytes: rows as far as they are sound, then one message."""

import json
import os
import struct
from datetime import datetime
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warmup_distill.data.files import file_rows, read_file
from warmup_distill.data.sources import read_rows
from warmup_distill.errors import DataError
from warmup_distill.recipe import Source
from warmup_distill.scoring.files import score_file


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def written(folder: Path, table: pa.Table) -> Path:
    pq.write_table(table, folder / "rows.parquet")
    return folder / "rows.parquet"


def broken_parquet(folder: Path, kind: str) -> Path:
    if kind == "text that is no UTF-8":
        ends, text = pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe")
        raw = pa.Array.from_buffers(pa.string(), 1, [None, ends, text])
        return written(folder, pa.table({"prompt": raw}))
    if kind == "a date beyond all years":
        moments = pa.array([2**62], pa.int64()).cast(pa.timestamp("ms"))
        return written(folder, pa.table({"prompt": ["a"], "date": moments}))
    if kind == "millions of rows in some kilobytes":
        values = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000_000), pa.array(["a"]))
        path = written(folder, pa.table({"prompt": values}))
        assert path.stat().st_size < 10_000
        return path
    whole = written(folder, pa.table({"prompt": ["a"] * 1000})).read_bytes()
    return write(folder, "rows.parquet", whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "kind",
    [
        "text that is no UTF-8", "a date beyond all years", "millions of rows in some kilobytes",
        "cut in the middle",
    ],
)  # fmt: skip
def test_a_parquet_file_that_python_cannot_hold_is_refused_in_words(
    kind: str, tmp_path: Path
) -> None:
    path = broken_parquet(tmp_path, kind)
    for read in (lambda: list(read_file(path)), lambda: read_rows(Source(file=path)),
                 lambda: list(score_file(path, "exact_match"))):  # fmt: skip
        with pytest.raises(DataError, match="rows.parquet"):
            read()


LINES = {
    "a number of 5,000 digits": b'{"prompt": ' + b"9" * 5000 + b"}",
    "a value nested 100,000 deep": b"[" * 100_000,
    "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
    "UTF-16 in the second line": b'{"prompt": "a"}\n' + '{"prompt": "a"}'.encode("utf-16"),
    "half a character as id": b'{"prompt": "a", "prediction": "a", "id": "\\ud800"}',
    "nothing but NUL": b"\0" * 100,
    "a row that is a list of lists": b"[" * 500 + b"]" * 500,
}


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
@pytest.mark.parametrize("name", LINES)
def test_a_row_that_is_none_is_refused_with_its_place(
    name: str, suffix: str, tmp_path: Path
) -> None:
    path = write(tmp_path, f"rows.{suffix}", LINES[name])
    with pytest.raises(DataError, match=rf"rows\.{suffix}") as error:
        read_rows(Source(file=path))
    assert len(str(error.value)) < 1000


def test_bytes_that_are_no_text_are_found_in_their_line(tmp_path: Path) -> None:
    lines = [b'{"prompt": "a"}'] * 2000 + [b'{"prompt": "\xff"}']
    with pytest.raises(DataError, match=r"rows\.jsonl:2001: expected UTF-8"):
        read_rows(Source(file=write(tmp_path, "rows.jsonl", b"\n".join(lines))))


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.json"):
        path = write(tmp_path, name, b'\xef\xbb\xbf{"prompt": "a"}')
        assert list(file_rows(path)) == [{"prompt": "a"}]


def test_a_carriage_return_ends_no_row(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", b'{"a": 1}\r\n\r\n{"a":\r 2}\r\n')
    assert list(file_rows(path)) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("name", ["pipe.jsonl", "device.json", "folder.parquet", "loop.jsonl",
                                  f"{'x' * 300}.jsonl"])  # fmt: skip
def test_what_is_no_ordinary_file_is_refused_unread(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "device.json").symlink_to("/dev/zero")
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    with pytest.raises(DataError, match=r"there is|cannot be read"):
        list(file_rows(tmp_path / name))


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_a_file_of_a_terabyte_of_nothing_is_refused_at_once(suffix: str, tmp_path: Path) -> None:
    with (tmp_path / f"rows.{suffix}").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match=f"rows.{suffix}"):
        list(file_rows(tmp_path / f"rows.{suffix}"))


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    good = json.dumps({"prompt": "a", "when": str(datetime(2024, 1, 1))}).encode()
    path = write(tmp_path, "rows.jsonl", good + b"\n" + b"\xff")
    assert len(read_rows(Source(file=path, limit=1))) == 1
    assert len(list(islice(file_rows(path), 1))) == 1


def test_many_columns_are_named_in_brief(tmp_path: Path) -> None:
    row = {f"column {i}" + "x" * 500: i for i in range(20_000)}
    path = write(tmp_path, "rows.jsonl", json.dumps(row).encode())
    for read in (lambda: read_rows(Source(file=path)), lambda: list(score_file(path, "boxed"))):
        with pytest.raises(DataError, match="the columns are column 0") as error:
            read()
        assert len(str(error.value)) < 5000
