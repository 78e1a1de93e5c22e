"""Reading and writing what a run leaves on disk: Parquet parts, JSON, and the manifest.

Everything is written to a temporary name, fsynced and renamed, so a file that exists is whole.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from warmup_distill.errors import RunError

Record = TypeVar("Record")

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


def _sync(path: Path) -> None:
    """Wait until a file is on the disk, and not only on its way there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which takes the place of `folder` at the end of the block.

    So a folder appears whole or not at all.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        for path in filter(Path.is_file, temporary.rglob("*")):
            _sync(path)
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    with _replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_records(path: Path, record_type: type[Record]) -> list[Record]:
    """Read the records of one Parquet file; a field with a default may be missing there."""
    there = set(pq.read_schema(path).names)
    names = [
        field.name
        for field in dataclasses.fields(record_type)  # type: ignore[arg-type]
        if field.name in there or field.default is dataclasses.MISSING
    ]
    return [record_type(**row) for row in pq.read_table(path, columns=names).to_pylist()]


def read_notes(path: Path) -> dict[str, str]:
    """The notes of a Parquet file; none if it is not there or cannot be read."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return {}
    return {key.decode(): value.decode() for key, value in metadata.items()}


def part_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.parquet"


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
    """The records of all parts of a folder, in order."""
    for path in sorted(folder.glob("part-*.parquet")):
        yield from read_records(path, record_type)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people and programs, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} should be a JSON file that this program wrote, but cannot be read "
            f"({error}). Restore it, or start in a new --output-dir."
        ) from error


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside the target; on success fsync it and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
