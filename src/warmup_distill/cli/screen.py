"""Where text leaves for a terminal or a pipe: nothing foreign in it can steer what reads it."""

import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from warmup_distill.foreign.showing import clean, json_line

LONGEST = 20_000
"""Characters of a message; what is longer was not written to be read."""


def guard() -> None:
    """Log lines and warnings of all libraries are clean too, and no encoding stops the program."""
    logging.setLogRecordFactory(_CleanRecord)
    logging.captureWarnings(True)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def say(text: str, file: TextIO | None = None) -> None:
    """Print lines of text."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]} … (cut off)"
    print(clean(cut), file=file)


def say_json(value: Any) -> None:
    """Print a value as a line of JSON, which is whole and valid whatever stands in it."""
    print(json_line(value, ascii_only=(sys.stdout.encoding or "utf-8").lower() != "utf-8"))


def show(table: RenderableType, width: int | None = None) -> None:
    """Print a table of `rich`."""
    _CleanConsole(markup=False, width=width).print(table)


class _CleanConsole(Console):
    """Cleans each piece of text before it is laid out, and leaves colours as they are."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean(segment.text), segment.style)


class _CleanRecord(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802 — logging's name
        return clean(super().getMessage())
