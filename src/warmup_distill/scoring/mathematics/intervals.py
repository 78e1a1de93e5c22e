"""Inequalities as the intervals that they mean."""

from warmup_distill.scoring.mathematics.reading import is_name
from warmup_distill.scoring.mathematics.structure import (
    Answer,
    Bracketed,
    Formula,
    Relation,
    Several,
    Union,
)
from warmup_distill.scoring.mathematics.tokens import Tokens

_REVERSED = {">": "<", ">=": "<="}
_INFINITY, _MINUS_INFINITY = Formula(("\\infty",)), Formula(("-", "\\infty"))
_REALS = Formula(("\\mathbb", "{", "R", "}"))


def ascending(relation: Relation) -> tuple[tuple[Answer, ...], Tokens]:
    """Sides and signs of an inequality, the smaller side first where all signs turn one way."""
    if not all(sign in _REVERSED for sign in relation.signs):
        return relation.sides, relation.signs
    return relation.sides[::-1], tuple(_REVERSED[sign] for sign in relation.signs[::-1])


def as_set(answer: Answer) -> Bracketed | Union | None:
    """What is a set of numbers, or says which numbers something can be; None for anything else."""
    if isinstance(answer, Bracketed | Union):
        return answer
    if isinstance(answer, Relation):
        return _interval(answer)
    if isinstance(answer, Several):
        parts = [as_set(item) for item in answer.items if isinstance(item, Relation)]
        found = tuple(part for part in parts if part is not None)
        return Union(found) if len(found) == len(answer.items) else None
    return _between(_MINUS_INFINITY, "<", "<", _INFINITY) if answer == _REALS else None


def _interval(relation: Relation) -> Bracketed | Union | None:
    sides, signs = ascending(relation)
    named = [isinstance(side, Formula) and is_name(side.tokens) for side in sides]
    if signs == ("!=",) and named[0]:
        below = _between(_MINUS_INFINITY, "<", "<", sides[1])
        return Union((below, _between(sides[1], "<", "<", _INFINITY)))
    if not {*signs} <= {"<", "<="}:
        return None
    if named == [True, False]:
        return _between(_MINUS_INFINITY, "<", signs[0], sides[1])
    if named == [False, True]:
        return _between(sides[0], signs[0], "<", _INFINITY)
    if named == [False, True, False]:
        return _between(sides[0], signs[0], signs[1], sides[2])
    return None


def _between(low: Answer, after_low: str, before_high: str, high: Answer) -> Bracketed:
    opening, closing = "(" if after_low == "<" else "[", ")" if before_high == "<" else "]"
    return Bracketed(opening, (low, high), closing)
