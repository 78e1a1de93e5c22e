"""A result on disk: what it is the answer to, and whether it is as it was written."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.errors import RunError
from warmup_distill.store.artifacts import read_json, write_json, write_records
from warmup_distill.store.environment import describe_environment
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.hashing import sha256
from warmup_distill.suites.evaluating import SuitePrediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The file of a result.

    Args:
        path: of the JSON file; the predictions are beside it.
        asked: what the result is the answer to.
    """

    path: Path
    suite: str
    asked: dict[str, Any]

    @property
    def drawn(self) -> Path:
        """Where completions are until the result is there."""
        return self.path.with_suffix(".drawn")

    def is_there(self) -> bool:
        """Whether the question was answered before.

        Raises:
            RunError: another one was, or the result is not as it was written.
        """
        if not self.path.is_file():
            return False
        result = _require_whole(self.path)
        there = result["asked"]
        differing = [key for key in self.asked if there.get(key) != self.asked[key]]
        if "seal" not in result:  # an earlier version named weights in another way
            differing = [key for key in differing if key != "weights"]
        if differing:
            raise RunError(
                f"{self.path} holds the result of another question; what differs: "
                f"{', '.join(differing)}. Remove {self.path.parent} to ask again, or give another "
                "--output-dir."
            )
        return True

    def write(self, result: dict[str, Any], predictions: Sequence[SuitePrediction]) -> None:
        """Write predictions, and last the result, which knows them."""
        write_records(self.path.with_suffix(".parquet"), SuitePrediction, predictions)
        whole = {"suite": self.suite, "asked": self.asked} | result
        whole |= {"environment": describe_environment()}
        write_json(self.path, whole | {"seal": _seal(self.path, whole)})


def _require_whole(path: Path) -> dict[str, Any]:
    """A result that is as it was written, with its predictions.

    Raises:
        RunError: it is not.
    """
    result = read_json(path)
    whole = isinstance(result, dict) and isinstance(result.get("asked"), dict)
    if whole and "seal" not in result:
        logger.warning("%s is of an earlier version, which kept no hashes: taken as it is.", path)
    elif not whole or result["seal"] != _seal(path, result):
        raise RunError(
            f"{path}, or the predictions beside it, are not as they were written. Put back a copy, "
            f"or remove {path} to ask again."
        )
    return dict(result)


def _seal(path: Path, result: dict[str, Any]) -> str:
    """A digest of a result and of its predictions."""
    predictions = path.with_suffix(".parquet")
    known = sha256(predictions) if predictions.is_file() else None
    return digest([{key: result[key] for key in result if key != "seal"}, known])
