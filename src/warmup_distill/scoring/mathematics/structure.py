"""What an answer can be: a formula, a text, a list, a tuple, a set, a matrix, an equation."""

from dataclasses import dataclass

from warmup_distill.scoring.mathematics.tokens import Tokens
from warmup_distill.scoring.mathematics.units import NO_UNIT, Unit


@dataclass(frozen=True)
class Formula:
    """One value, such as `2\\pi`; or what we cannot read, which is compared token by token."""

    tokens: Tokens
    unit: Unit = NO_UNIT


@dataclass(frozen=True)
class Text:
    """Words, without case, spaces and dots."""

    plain: str


@dataclass(frozen=True)
class Several:
    """Items in no order: a bare list of solutions, or a set in braces."""

    items: tuple["Answer", ...]


@dataclass(frozen=True)
class Bracketed:
    """Items in order: a tuple, an interval, or, between colons, a ratio."""

    opening: str
    items: tuple["Answer", ...]
    closing: str


@dataclass(frozen=True)
class Union:
    """Sets of numbers put together, in no order."""

    items: tuple["Answer", ...]


@dataclass(frozen=True)
class Matrix:
    """Rows of cells, in whatever brackets; a determinant is something else."""

    kind: str
    rows: tuple[tuple["Answer", ...], ...]


@dataclass(frozen=True)
class Relation:
    """An equation, an inequality, or a chain of them: there is one sign less than sides."""

    sides: tuple["Answer", ...]
    signs: Tokens
    name: Tokens | None
    """The left side where it is the name of what the right side is, as in `x = 5`."""


Answer = Formula | Text | Several | Bracketed | Union | Matrix | Relation
