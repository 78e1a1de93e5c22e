"""Reading rows from the bundled problems, a local file, or a data set on the hub."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from warmup_distill.bundled.problems import Split, draw
from warmup_distill.data.values import column_text, require_nothing_lost, text_of
from warmup_distill.errors import DataError
from warmup_distill.recipe import BUNDLED_PROBLEMS, Source

SPLITS: dict[str, Split] = {"train": "train", "dev": "dev", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the recipe's columns hold in one row; None where that is nothing but white space."""

    row_id: str
    text: str
    reference: str | None
    answer: str | None


def read_rows(source: Source) -> list[Row]:
    """The rows of a source, after `skip` and up to `limit`.

    Raises:
        DataError: the source is missing, empty, malformed (file and line are named), or has no
            such column.
    """
    end = None if source.limit is None else source.skip + source.limit
    if source.dataset == BUNDLED_PROBLEMS:
        return list(islice(_bundled_rows(source), source.skip, end))
    origin = str(source.file or source.dataset)
    if source.file:
        raw = _file_rows(source.file)
    else:
        raw = read_dataset(str(source.dataset), source.dataset_config, source.split)
    rows = [
        _row(values, f"{origin}:{number}", f"{Path(origin).stem}-{number:06d}", source)
        for number, values in islice(enumerate(raw, start=1), source.skip, end)
    ]
    if not rows:
        raise DataError(
            f"expected rows in {origin} after the first {source.skip}, but there are none."
        )
    _require_distinct_ids(rows, origin)
    _require_some(rows, origin, source)
    return rows


def read_file(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a file as they are, each with its place for messages.

    Raises:
        DataError: the file is missing or malformed.
    """
    for number, values in enumerate(_file_rows(path), start=1):
        yield _mapping(values, where := f"{path}:{number}"), where


def _mapping(values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise DataError(f"{where}: expected an object with named columns, got {values!r:.80}")
    return values


def _require_distinct_ids(rows: list[Row], origin: str) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.row_id in seen:
            raise DataError(f"{origin}: the id {row.row_id} is given twice; ids must differ.")
        seen.add(row.row_id)


def _require_some(rows: list[Row], origin: str, source: Source) -> None:
    """A column that the recipe names must hold something in one row at least."""
    for name, column in (("reference", source.reference_column), ("answer", source.answer_column)):
        if column and all(getattr(row, name) is None for row in rows):
            raise DataError(
                f"{origin}: the column `{column}` is empty in all {len(rows)} rows. Name another "
                f"one in {name}_column, or leave it out."
            )


def _bundled_rows(source: Source) -> Iterator[Row]:
    if source.split not in SPLITS:
        raise DataError(f"the bundled problems have splits {', '.join(SPLITS)}, not {source.split}")
    for problem in draw(SPLITS[source.split], source.seed):
        yield Row(
            row_id=problem.problem_id,
            text=problem.question,
            reference=problem.solution,
            answer=problem.answer,
        )


def _row(values: Any, where: str, default_id: str, source: Source) -> Row:
    values = _mapping(values, where)
    text = column_text(values, source.prompt_column, where)
    if text is None:
        raise DataError(f"{where}: the prompt column `{source.prompt_column}` is empty.")
    about = column_text(values, source.input_column, where)
    text = text if about is None else f"{text}\n\n{about}"
    require_nothing_lost(values, text, where, source)
    return Row(
        row_id=text_of(values.get("id"), where, "id") or default_id,
        text=text,
        reference=column_text(values, source.reference_column, where),
        answer=column_text(values, source.answer_column, where),
    )


def _file_rows(path: Path) -> Iterable[Any]:
    if not path.is_file():
        there = "a folder" if path.is_dir() else "none"
        raise DataError(f"expected a data file at {path}, but there is {there}. Check the path.")
    if path.suffix == ".parquet":
        try:
            return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    if path.suffix in (".jsonl", ".json"):
        return _json_rows(path)
    raise DataError(f"expected a .jsonl, .json or .parquet file, got {path}")


def _json_rows(path: Path) -> Iterator[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text: {error}") from error
    if path.suffix == ".json":
        rows = _parse_json(text, str(path))
        yield from rows if isinstance(rows, list) else [rows]
        return
    # split("\n"), for splitlines() would also cut inside strings, at U+2028 and the like.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _parse_json(line, f"{path}:{number}")


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: expected JSON: {error}") from error


def read_dataset(name: str, config: str | None, split: str) -> Iterable[Any]:
    """The rows of a data set on the hub.

    Raises:
        DataError: it cannot be loaded.
    """
    try:
        return datasets.load_dataset(name, config, split=split)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise DataError(
            f"the data set {name} (split {split}) cannot be loaded from the hub: "
            f"{str(error).splitlines()[0]} Check the name and the connection, or name a file."
        ) from error
