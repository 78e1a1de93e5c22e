"""Whether two formulas with their units are the same, and two equations of formulas."""

from warmup_distill.scoring.mathematics.formulas import Tree, parse
from warmup_distill.scoring.mathematics.structure import Answer, Formula
from warmup_distill.scoring.mathematics.tokens import Tokens
from warmup_distill.scoring.mathematics.units import DEGREE, PERCENT
from warmup_distill.scoring.mathematics.values import (
    approximates,
    names_in,
    same_value,
    value_at,
)


def same_formula(one: Formula, other: Formula) -> bool:
    """Whether two formulas have the same value, and units that do not contradict each other.

    Where one side alone has the sign, `50\\%` is a half, and 50 for who counts in percent without
    saying so; `90^\\circ` is `\\frac{\\pi}{2}`, and 90.
    """
    if one.unit.contradicts(other.unit):
        return False
    ours, theirs = parse(one.tokens), parse(other.tokens)
    if ours is None or theirs is None:
        return _single(one.tokens) == _single(other.tokens)
    if not other.unit.measures and one.unit.measures in ((PERCENT,), (DEGREE,)):
        return _same_as_bare(ours, one.unit.measures[0], theirs)
    if not one.unit.measures and other.unit.measures in ((PERCENT,), (DEGREE,)):
        return _same_as_bare(theirs, other.unit.measures[0], ours)
    return _same(ours, theirs)


def same_equation(one: tuple[Answer, ...], other: tuple[Answer, ...]) -> bool:
    """Whether two equations of formulas differ in what was taken to the other side alone."""
    ours, theirs = _difference(*one), _difference(*other)
    if ours is None or theirs is None or not names_in(ours):
        return False
    return same_value(ours, theirs) or same_value(ours, ("negative", theirs))


def _same_as_bare(marked: Tree, sign: str, bare: Tree) -> bool:
    if sign == DEGREE:
        return _same(marked, bare) or _same(("degrees", marked), bare)
    share = ("divide", marked, ("number", "100"))
    return _same(share, bare) or (_same(marked, bare) and not _is_below_one(bare))


def _is_below_one(tree: Tree) -> bool:
    """Whether a number cannot be meant in percent: it is a share itself."""
    value = None if names_in(tree) else value_at(tree, ())
    return value is not None and bool(abs(value) < 1)


def _same(one: Tree, other: Tree) -> bool:
    return same_value(one, other) or approximates(one, other) or approximates(other, one)


def _difference(left: Answer, right: Answer) -> Tree | None:
    if not isinstance(left, Formula) or not isinstance(right, Formula):
        return None
    trees = parse(left.tokens), parse(right.tokens)
    if trees[0] is None or trees[1] is None:
        return None
    return ("sum", trees[0], ("negative", trees[1]))


def _single(tokens: Tokens) -> Tokens:
    """Tokens without the braces around a single one: `x^{2}` is `x^2`."""
    found: list[str] = []
    for token in tokens:
        if token == "}" and found[-2:-1] == ["{"]:
            found[-2:] = [found[-1]]
        else:
            found.append(token)
    return tuple(found)
