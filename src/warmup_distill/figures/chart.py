"""A figure that was drawn, with the numbers that it shows."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from warmup_distill.figures.canvas import styled
from warmup_distill.figures.markup import for_file, for_page
from warmup_distill.foreign.showing import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf", "csv")
"""Ends of the names of a figure's files."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What is said of a figure besides its axes."""

    name: str
    """Of its files: letters, digits, dot, dash, underscore."""
    title: str
    summary: str
    """What the figure shows, for those who do not see it."""
    note: str | None = None
    """What one has to know to read it."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure; whatever is written of it is the same each time."""

    caption: Caption
    drawn: "Figure"
    told: Mapping[str, str]
    """What single shapes show, by the name that they have in `drawn`."""
    columns: Sequence[str]
    rows: Sequence[Sequence[float | str]]
    """The numbers that it shows."""

    @property
    def for_page(self) -> str:
        """SVG for a page that has the colours as variables in its style sheet."""
        return for_page(self._written, self.told, self.caption.title, self.caption.summary)

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The names of the figure's files, and what they hold."""
        drawing = for_file(self._written, self.told, self.caption.title, self.caption.summary)
        found = (drawing.encode(), self._pdf(), self._csv().encode())
        for ending, content in zip(FORMATS, found, strict=True):
            yield f"{self.caption.name}.{ending}", content

    @cached_property
    def _written(self) -> str:
        file = io.StringIO()
        with styled(self.caption.name):
            self.drawn.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()

    def _pdf(self) -> bytes:
        file = io.BytesIO()
        with styled(self.caption.name):
            self.drawn.savefig(
                file, format="pdf", metadata={"CreationDate": None, "Title": self.caption.title}
            )
        return file.getvalue()

    def _csv(self) -> str:
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(
            [clean(one) if isinstance(one, str) else one for one in row] for row in self.rows
        )
        return file.getvalue()
