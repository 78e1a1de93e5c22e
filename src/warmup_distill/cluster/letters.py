"""What a driver and the processes of a training write to one another: small files that all see."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from warmup_distill.cluster.saying import Said
from warmup_distill.store.artifacts import read_json, write_json

ENDED, STOP = "ended.json", "stop.json"


@dataclass(frozen=True, kw_only=True)
class News:
    """How far a process of a training is, and all that it has said."""

    step: int = 0
    steps: int = 0
    """Of the whole training; 0 before it begins."""
    loss: float | None = None
    said: tuple[Said, ...] = ()


@dataclass(frozen=True)
class Letters:
    """The letters of one training.

    Args:
        folder: on storage that all machines see; only this file and Ray put anything there.
    """

    folder: Path

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """An empty folder inside the block, and none outside of it."""
        self._forget()
        self.folder.mkdir(parents=True)
        try:
            yield
        finally:
            self._forget()

    def ask_to_stop(self, signal: int) -> None:
        """Have every process save and end, as this signal would."""
        if not (self.folder / STOP).exists():
            write_json(self.folder / STOP, {"signal": signal})

    def asked_to_stop(self) -> int | None:
        """The signal, if one was written."""
        path = self.folder / STOP
        return int(read_json(path)["signal"]) if path.exists() else None

    def end(self, how: dict[str, Any]) -> None:
        """Tell how the training ended."""
        write_json(self.folder / ENDED, how)

    def ended(self) -> dict[str, Any]:
        """How the training ended; empty if nobody has told."""
        path = self.folder / ENDED
        found: dict[str, Any] = read_json(path) if path.exists() else {}
        return found

    def tell(self, who: str, news: News) -> None:
        """Leave the newest of one process."""
        write_json(self.folder / f"news-{who}.json", asdict(news))

    def news(self) -> list[News]:
        """The newest of each process that has told something."""
        return [_news(read_json(path)) for path in sorted(self.folder.glob("news-*.json"))]

    def _forget(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder)


def _news(read: dict[str, Any]) -> News:
    return News(**read | {"said": tuple(Said(**one) for one in read["said"])})
