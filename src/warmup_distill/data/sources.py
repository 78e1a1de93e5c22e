"""Reading rows from the bundled problems, a local file, or a data set on the hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import datasets

from warmup_distill.bundled.problems import Split, draw
from warmup_distill.data.files import file_rows, mapping
from warmup_distill.data.values import column_text, require_nothing_lost, text_of
from warmup_distill.errors import DataError
from warmup_distill.foreign.reading import reading
from warmup_distill.recipe import BUNDLED_PROBLEMS, Source

MOST_ROWS = 10_000_000
"""Rows that are read at the most, since all are held in memory."""
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
    end = source.skip + (source.limit or MOST_ROWS + 1)
    if source.dataset == BUNDLED_PROBLEMS:
        return list(islice(_bundled_rows(source), source.skip, end))
    origin = str(source.file or source.dataset)
    if source.file:
        raw = file_rows(source.file)
    else:
        raw = read_dataset(str(source.dataset), source.dataset_config, source.split)
    rows = [
        _row(values, f"{origin}:{number}", f"{Path(origin).stem}-{number:06d}", source)
        for number, values in islice(enumerate(raw, start=1), source.skip, end)
    ]
    if len(rows) > MOST_ROWS:
        raise DataError(f"{origin} has more than {MOST_ROWS:,} rows: set `limit` to take some.")
    if not rows:
        raise DataError(
            f"expected rows in {origin} after the first {source.skip}, but there are none."
        )
    _require_distinct_ids(rows, origin)
    _require_some(rows, origin, source)
    return rows


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
    values = mapping(values, where)
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


def read_dataset(name: str, config: str | None, split: str) -> Iterator[Any]:
    """The rows of a data set on the hub.

    Raises:
        DataError: it cannot be loaded.
    """
    what = f"the data set {name} (split {split}) cannot be loaded"
    with reading(DataError, f"{what}. Check the name and the connection, or name a file"):
        yield from datasets.load_dataset(name, config, split=split)
