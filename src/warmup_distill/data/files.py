"""Rows of a local file, one after the other, whatever its bytes."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from warmup_distill.errors import DataError
from warmup_distill.foreign.reading import read_text, reading, what_is_at
from warmup_distill.foreign.showing import brief

LARGEST_ROW = 2**26
"""Bytes of a line of .jsonl."""
LARGEST_JSON = 2**30
"""Characters of a .json file, which is read as a whole."""
ROWS_AT_ONCE = 256
"""Rows of a Parquet file that are in memory together."""
MOST_PER_BYTE = 100
"""Values of a Parquet column per byte of its file; a kilobyte can claim to hold millions."""


def read_file(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a file as they are, each with its place for messages.

    Raises:
        DataError: the file is missing or malformed.
    """
    for number, values in enumerate(file_rows(path), start=1):
        yield mapping(values, where := f"{path}:{number}"), where


def mapping(values: Any, where: str) -> dict[str, Any]:
    """A row that has columns; else a DataError."""
    if not isinstance(values, dict):
        raise DataError(f"{where}: expected an object with named columns, got {brief(values)}")
    return values


def file_rows(path: Path) -> Iterator[Any]:
    """What stands in a .jsonl, .json or .parquet file, row by row; later faults come later.

    Raises:
        DataError: as `read_file`.
    """
    with reading(DataError, f"{path} cannot be read"):
        found = what_is_at(path)
    if found != "a file":
        raise DataError(f"expected a data file at {path}, but there is {found}. Check the path.")
    if path.suffix not in READERS:
        raise DataError(f"expected a .jsonl, .json or .parquet file, got {path}")
    return READERS[path.suffix](path)


def _parquet_rows(path: Path) -> Iterator[Any]:
    with reading(DataError, f"{path} cannot be read as Parquet"), pq.ParquetFile(path) as file:
        claimed = _values(file.metadata)
        if claimed > MOST_PER_BYTE * path.stat().st_size:
            raise DataError(f"{path} claims {claimed:,} values, more than its bytes can hold.")
        for batch in file.iter_batches(ROWS_AT_ONCE):
            yield from _with_short_floats(batch).to_pylist()


def _with_short_floats(batch: pa.RecordBatch) -> pa.RecordBatch:
    """With float16 and float32 by their own digits: 0.1 is 0.1, and not 0.10000000149011612."""
    columns = []
    for column in batch.columns:
        if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
            short = column.type.to_pandas_dtype()
            digits = (one if one is None else float(str(short(one))) for one in column.to_pylist())
            column = pa.array(digits, pa.float64())
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _values(metadata: Any) -> int:
    """Values of the longest column, rows or what their lists hold."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = range(metadata.num_columns)
    return sum(max((group.column(i).num_values for i in columns), default=0) for group in groups)


def _json_rows(path: Path) -> Iterator[Any]:
    text = read_text(path, DataError, f"{path}: expected UTF-8 text", most=LARGEST_JSON)
    rows = _parse_json(text, str(path))
    yield from rows if isinstance(rows, list) else [rows]


def _jsonl_rows(path: Path) -> Iterator[Any]:
    with reading(DataError, f"{path} cannot be read"), path.open("rb") as file:
        for number in count(1):
            where, line = f"{path}:{number}", file.readline(LARGEST_ROW)
            if len(line) == LARGEST_ROW:
                raise DataError(f"{where}: expected a row of less than {LARGEST_ROW:,} bytes.")
            if not line:
                return
            with reading(DataError, f"{where}: expected UTF-8 text"):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.strip():
                yield _parse_json(text, where)


READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
}


def _parse_json(text: str, where: str) -> Any:
    with reading(DataError, f"{where}: expected JSON"):
        return json.loads(text)
