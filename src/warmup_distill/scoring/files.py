"""Scores of predictions that another program made."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.data.sources import read_file
from warmup_distill.errors import DataError
from warmup_distill.scoring.metrics import METRICS, Gold


@dataclass(frozen=True, kw_only=True)
class RowScore:
    """The score of one row of a file."""

    id: str
    value: float
    extracted: str | None


def score_file(path: Path, metric: str) -> Iterator[RowScore]:
    """Score the rows of a file, which have `prediction` and a reference or an answer.

    Args:
        path: .jsonl, .json or .parquet with `prediction` and one or more of `reference`,
            `references` (a list) and `answer`; rows without an `id` are known by their number.
        metric: a key of `METRICS`.

    Raises:
        DataError: the file or a row is not of that form.
    """
    number = 0
    for number, (values, where) in enumerate(read_file(path), start=1):
        prediction = read_text(values, "prediction", where)
        if prediction is None:
            raise DataError(
                f"{where}: expected a column `prediction`, but the columns are {', '.join(values)}."
            )
        scored = METRICS[metric](prediction, read_gold(values, where))
        name = values.get("id")
        yield RowScore(
            id=f"{path.stem}-{number:06d}" if name is None else str(name),
            value=scored.value,
            extracted=scored.extracted,
        )
    if not number:
        raise DataError(f"expected rows in {path}, but there are none.")


def read_gold(values: dict[str, Any], where: str) -> Gold:
    """What a row knows of the right answer.

    Raises:
        DataError: nothing, or it is not of the expected form.
    """
    references = values.get("references")
    if references is None:
        reference = read_text(values, "reference", where)
        references = [] if reference is None else [reference]
    if not isinstance(references, list) or not all(isinstance(one, str) for one in references):
        raise DataError(
            f"{where}: expected a list of texts in `references`, got {references!r:.80}"
        )
    answer = read_text(values, "answer", where)
    if answer is None and not references:
        raise DataError(
            f"{where}: expected `reference`, `references` or `answer`, but the columns are "
            f"{', '.join(values)}."
        )
    return Gold(references=references, answer=answer)


def read_text(values: dict[str, Any], name: str, where: str) -> str | None:
    """A column of a row as text; None where there is nothing."""
    value = values.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: expected text in `{name}`, got {value!r:.80}")
    return str(value)
