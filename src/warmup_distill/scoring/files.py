"""Scores of predictions that another program made."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.data.files import read_file
from warmup_distill.data.values import text_of
from warmup_distill.errors import DataError
from warmup_distill.foreign.showing import brief, listed
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
            `references` (a list) and `answer`; rows without an `id`, or with one that a row
            before has, are known by their number.
        metric: a key of `METRICS`.

    Raises:
        DataError: the file or a row is not of that form.
    """
    known: set[str] = set()
    number = 0
    for number, (values, where) in enumerate(read_file(path), start=1):
        prediction = read_text(values, "prediction", where)
        if prediction is None:
            raise DataError(
                f"{where}: expected a column `prediction` that holds a text, but the columns are "
                f"{listed(values)}."
            )
        scored = METRICS[metric](prediction, read_gold(values, where))
        name = values.get("id")
        if not isinstance(name, str):  # which is kept as it is
            name = read_text(values, "id", where)
        if name is None or name in known:
            name = f"{path.stem}-{number:06d}"
        known.add(name)
        yield RowScore(id=name, value=scored.value, extracted=scored.extracted)
    if not number:
        raise DataError(f"expected rows in {path}, but there are none.")


def read_gold(values: dict[str, Any], where: str) -> Gold:
    """What a row knows of the right answer.

    Raises:
        DataError: nothing, or it is not of the expected form.
    """
    given = values.get("references")
    if given is None or given != given:  # NaN, where another program left a gap
        given = [] if values.get("reference") is None else [values["reference"]]
    if not isinstance(given, list):
        raise DataError(f"{where}: expected a list of texts in `references`, got {brief(given)}")
    texts = [_text(one, where, "references") for one in given]
    references = [text for text in texts if text is not None]
    answer = read_text(values, "answer", where) or None
    if answer is None and not references:
        raise DataError(
            f"{where}: expected `reference`, `references` or `answer` to have a value, but the "
            f"columns are {listed(values)}."
        )
    return Gold(references=references, answer=answer)


def read_text(values: dict[str, Any], name: str, where: str) -> str | None:
    """A column of a row as text; None where there is nothing.

    Raises:
        DataError: it holds neither text nor a number.
    """
    return _text(values.get(name), where, name)


def _text(value: Any, where: str, name: str) -> str | None:
    """As `text_of`, but an empty text is one: a model can answer nothing."""
    text = text_of(value, where, name)
    return "" if text is None and isinstance(value, str) else text
