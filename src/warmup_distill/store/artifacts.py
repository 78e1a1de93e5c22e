"""Reading and writing what a run leaves on disk: records as Parquet parts, JSON and text.

Every page of a part has a checksum, so that a flipped byte is found when it is read.
"""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from warmup_distill.errors import RunError
from warmup_distill.foreign.reading import reading, require_file
from warmup_distill.store.writing import replacing

Record = TypeVar("Record")

PART = r"part-\d{5,}\.parquet"
"""The name of a part; whatever else lies in a folder of parts is not ours."""

REMEDY = "Put back a copy of it, or remove it and run again with --redo."

_ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int32(),
    float: pa.float32(),
    list[int]: pa.list_(pa.int32()),
    list[float]: pa.list_(pa.float32()),
}


def schema_of(record_type: type) -> pa.Schema:
    """The Parquet schema of a record: one column per field, nullable where the field is."""
    return pa.schema(
        [_column(name, hint) for name, hint in typing.get_type_hints(record_type).items()]
    )


def _column(name: str, hint: Any) -> pa.Field:
    # `X | None` and `Literal[...] | None` are two kinds of union to Python 3.11.
    is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    options = typing.get_args(hint) if is_union else (hint,)
    (kind,) = [option for option in options if option is not types.NoneType]
    if typing.get_origin(kind) is typing.Literal:
        kind = str
    return pa.field(name, _ARROW_TYPES[kind], nullable=types.NoneType in options)


def write_records(
    path: Path,
    record_type: type[Record],
    records: Sequence[Record],
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write records to one Parquet file, atomically; `notes` stand in its metadata."""
    rows = [vars(record) for record in records]
    schema = schema_of(record_type).with_metadata(dict(notes or {}) or None)
    table = pa.Table.from_pylist(rows, schema=schema)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_records(path: Path, record_type: type[Record]) -> list[Record]:
    """Read the records of one Parquet file; a field with a default may be missing there.

    Raises:
        RunError: it cannot be read, or holds something else.
    """
    fields = dataclasses.fields(record_type)  # type: ignore[arg-type]
    what = (
        f"{path} should be a Parquet file of {record_type.__name__} records that this program wrote"
    )
    with reading(RunError, f"{what}, but cannot be read. {REMEDY} The reader says"):
        require_file(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            there = file.schema_arrow
            expected = [
                schema_of(record_type).field(one.name)
                for one in fields
                if one.name in there.names or one.default is dataclasses.MISSING
            ]
            _require_types(there, expected)
            table = file.read(columns=[column.name for column in expected])
        return [record_type(**row) for row in table.to_pylist()]


def _require_types(there: pa.Schema, expected: Sequence[pa.Field]) -> None:
    for column in expected:
        found = there.field(column.name).type
        if found != column.type:
            raise ValueError(f"{column.name} is {found} and not {column.type}")


def read_notes(path: Path) -> dict[str, str]:
    """The notes of a Parquet file; none if it is not there or cannot be read."""
    if not path.is_file():
        return {}
    try:
        metadata = pq.read_schema(path).metadata or {}
        return {key.decode(): value.decode() for key, value in metadata.items()}
    except Exception:  # as above: then it is not one that anything here can go on from
        return {}


def part_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.parquet"


def parts_in(folder: Path) -> list[Path]:
    """The parts in a folder, in order; none if there is no folder."""
    found = [path for path in folder.glob("part-*.parquet") if re.fullmatch(PART, path.name)]
    return sorted(found, key=lambda path: int(path.stem.removeprefix("part-")))


def write_parts(
    folder: Path, record_type: type[Record], records: Iterable[Record], rows_per_part: int = 10_000
) -> int:
    """Write records as numbered parts; returns how many records there were."""
    pending, index, count = [], 0, 0
    for record in records:
        pending.append(record)
        count += 1
        if len(pending) == rows_per_part:
            write_records(part_path(folder, index), record_type, pending)
            pending, index = [], index + 1
    if pending or index == 0:
        write_records(part_path(folder, index), record_type, pending)
    return count


def read_parts(folder: Path, record_type: type[Record]) -> Iterator[Record]:
    """The records of all parts of a folder, in order.

    Raises:
        RunError: there is no part, or one is missing between others, or cannot be read.
    """
    found = parts_in(folder)
    for index in range(max(1, len(found))):
        if part_path(folder, index) not in found:
            raise RunError(f"{part_path(folder, index)} is missing. {REMEDY}")
    for path in found:
        yield from read_records(path, record_type)


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically; what UTF-8 cannot hold is escaped, in JSON without a loss."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as it is, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people and programs, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        RunError: it cannot be read.
    """
    what = f"{path} should be a JSON file that this program wrote, but cannot be read. {REMEDY}"
    with reading(RunError, f"{what} The reader says"):
        require_file(path)
        return json.loads(path.read_text(encoding="utf-8"))


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a training's log (.jsonl) or watch (.json): numbers by name, one of them `step`.

    Returns:
        Nothing where there is no such file.

    Raises:
        RunError: it cannot be read, or holds something else.
    """
    if not path.is_file():
        return []
    what = f"{path} should be the log of a training, but cannot be read. {REMEDY} The reader says"
    with reading(RunError, what):
        text = path.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line]
        rows = map(json.loads, lines) if path.suffix == ".jsonl" else json.loads(text)
        rows = list(rows)
        if all(_is_numbers(row) for row in rows):
            return rows
        raise ValueError("a row that is none")


def _is_numbers(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and "step" in row
        and all(value is None or isinstance(value, int | float) for value in row.values())
    )
