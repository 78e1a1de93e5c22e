"""Whether two answers are the same."""

from collections.abc import Sequence

from warmup_distill.scoring.mathematics.equal_formulas import same_equation, same_formula
from warmup_distill.scoring.mathematics.intervals import as_set, ascending
from warmup_distill.scoring.mathematics.reading import plain, read
from warmup_distill.scoring.mathematics.structure import (
    Answer,
    Bracketed,
    Formula,
    Matrix,
    Relation,
    Several,
    Text,
    Union,
)

MOST_ITEMS = 64
"""Of a list in no order; longer ones are compared in order."""


def same_answer(found: str, expected: str) -> bool:
    """Whether an answer in LaTeX is the expected one.

    Lists are sets of solutions, in any order; tuples, intervals and matrices are compared part by
    part, formulas by value, equations but for their sides, units where both sides have one.
    Nothing is rounded, but a decimal may stand for what has none, to a relative 1e-4.
    """
    one, other = read(found), read(expected)
    if same(one, other):
        return True
    # `70,110` is a number, or two where the other side is a list.
    if isinstance(one, Several):
        return same(one, read(expected, thousands=False))
    return isinstance(other, Several) and same(read(found, thousands=False), other)


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers are the same, once they are read."""
    if isinstance(one, Relation) and isinstance(other, Relation):
        return _same_relation(one, other)
    for relation, value in ((one, other), (other, one)):
        if isinstance(relation, Relation) and (stated := _stated(relation)) is not None:
            return same(stated, value)
    if isinstance(one, Union | Bracketed) != isinstance(other, Union | Bracketed):
        sets = as_set(one), as_set(other)
        return None not in sets and _same_form(*sets)
    return _same_form(one, other)


def _same_form(one: Answer | None, other: Answer | None) -> bool:
    """Whether two answers of one form are the same; those of different forms are not."""
    match one, other:
        case Formula(), Formula():
            return same_formula(one, other)
        case Formula() | Text(), Formula() | Text():
            return _text(one) == _text(other)
        case Several(items=ours), Several(items=theirs):
            return _same_items(ours, theirs)
        case Union(items=ours), Union(items=theirs):
            return _same_items(ours, theirs)
        case Bracketed(), Bracketed():
            brackets = (one.opening, one.closing) == (other.opening, other.closing)
            return brackets and _in_order(one.items, other.items)
        case Matrix(), Matrix():
            rows = len(one.rows) == len(other.rows) and one.kind == other.kind
            return rows and all(map(_in_order, one.rows, other.rows))
    return False


def _text(answer: Formula | Text) -> str:
    return answer.plain if isinstance(answer, Text) else plain(answer.tokens)


def _in_order(ours: Sequence[Answer], theirs: Sequence[Answer]) -> bool:
    return len(ours) == len(theirs) and all(map(same, ours, theirs))


def _same_items(ours: Sequence[Answer], theirs: Sequence[Answer]) -> bool:
    """Whether there is one of theirs for each of ours.

    In any order, unless one side says what each item is, as `x = 1, y = 2` does.
    """
    if len(ours) != len(theirs):
        return False
    if len(ours) > MOST_ITEMS or _is_labelled(ours) != _is_labelled(theirs):
        return _in_order(ours, theirs)
    left = [*theirs]
    for item in ours:
        place = next((i for i, one in enumerate(left) if same(item, one)), None)
        if place is None:
            return False
        del left[place]
    return True


def _is_labelled(items: Sequence[Answer]) -> bool:
    names = [item.name for item in items if isinstance(item, Relation) and item.name]
    return len({*names}) == len(items)


def _stated(relation: Relation) -> Answer | None:
    """What something is said to be: the last side of `x = … = 5`, or of a true equation."""
    if {*relation.signs} != {"="}:
        return None
    first, *others = relation.sides
    if relation.name or all(same(first, side) for side in others):
        return others[-1]
    return None


def _same_relation(one: Relation, other: Relation) -> bool:
    if {*one.signs, *other.signs} != {"="}:
        (ours, our_signs), (theirs, their_signs) = ascending(one), ascending(other)
        return our_signs == their_signs and _in_order(ours, theirs)
    if one.name and one.name == other.name and same(one.sides[-1], other.sides[-1]):
        return True
    if _in_order(one.sides, other.sides) or _in_order(one.sides, other.sides[::-1]):
        return True
    return len(one.sides) == len(other.sides) == 2 and same_equation(one.sides, other.sides)
