"""Values of formulas: exact where they are rational, else to 80 digits or more.

Formulas with names in them are the same if they agree at a few points, where they are defined:
that different ones agree there by chance is as good as impossible.
"""

from fractions import Fraction
from functools import lru_cache
from zlib import crc32

from warmup_distill.scoring.mathematics.arithmetic import (
    Number,
    context,
    decimal_exponent,
    evaluate,
    lifted,
)
from warmup_distill.scoring.mathematics.formulas import Tree

Point = tuple[tuple[str, Fraction], ...]

DIGITS = 80
FEWER_DIGITS = 40
MOST_DIGITS = 10_000
CLOSE = Fraction(1, 10**30)
POINTS = (2, 50, 2, 7, 50)
"""How far from zero names are set, one after the other; at the first two they are positive."""
APPROXIMATE = Fraction(1, 10_000)
"""How far a decimal may be, relatively, from what has no finite decimal: a third, π, √2."""


def same_value(one: Tree, other: Tree) -> bool:
    """Whether two formulas have the same value at every point where both have one.

    Where a name is negative only real values count: `\\ln x^2` is `2\\ln x`.
    """
    if one == other:
        return True
    names = sorted(names_in(one) | names_in(other))
    agreed = False
    for number in range(len(POINTS) if names else 1):
        point = tuple((name, _coordinate(name, number)) for name in names)
        values = value_at(one, point), value_at(other, point)
        if any(value is None or (number > 1 and not _is_real(value)) for value in values):
            continue
        if not _close(*values):
            return False
        agreed = True
    return agreed


def approximates(decimal: Tree, other: Tree) -> bool:
    """Whether a decimal stands for a number that no finite decimal is equal to."""
    if names_in(other) or not is_decimal(decimal):
        return False
    value, wanted = value_at(decimal, ()), value_at(other, ())
    if value is None or wanted is None or _is_finite_decimal(wanted):
        return False
    if not isinstance(wanted, Fraction):
        value, wanted = lifted(context(DIGITS), value, wanted)
    return bool(abs(value - wanted) * APPROXIMATE.denominator <= abs(wanted))


def is_decimal(tree: Tree) -> bool:
    """Whether a formula is a number written with a decimal point."""
    tree = tree[1] if tree[0] == "negative" else tree
    return tree[0] == "number" and "." in tree[1] and "(" not in tree[1]


def _is_finite_decimal(value: Number) -> bool:
    if not isinstance(value, Fraction):
        return False
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest == 1


def names_in(tree: Tree) -> frozenset[str]:
    """The names that a formula has a value for each value of."""
    if tree[0] == "name":
        return frozenset([tree[1]])
    return frozenset().union(*(names_in(part) for part in tree[1:] if isinstance(part, tuple)))


def _coordinate(name: str, number: int) -> Fraction:
    drawn = crc32(f"{number} {name}".encode("utf-8", "surrogatepass"))
    size = Fraction((1 + drawn % 9973) * POINTS[number], 9973)
    return -size if number > 1 and drawn % 2 else size


@lru_cache(maxsize=4096)
def value_at(tree: Tree, point: Point) -> Number | None:
    """The value of a formula where its names have these values; None where it has none.

    What gets smaller with the digits it is computed to is zero, and what gets larger is nothing.
    """
    try:
        rough = evaluate(tree, dict(point), context(FEWER_DIGITS))
        if isinstance(rough, Fraction) or context().isinf(rough):
            return rough
        size = decimal_exponent(rough)
        if context().isnan(rough) or size > MOST_DIGITS:
            return None
        value = evaluate(tree, dict(point), context(DIGITS + max(0, size)))
    except (ArithmeticError, ValueError):
        return None
    change = decimal_exponent(value) - size
    if change < -FEWER_DIGITS // 2:
        return Fraction(0)
    return None if change > FEWER_DIGITS // 2 else value


def _is_real(value: Number) -> bool:
    return isinstance(value, Fraction) or value.imag == 0


def _close(one: Number, other: Number) -> bool:
    if one == other or (isinstance(one, Fraction) and isinstance(other, Fraction)):
        return bool(one == other)
    if context().isinf(one) or context().isinf(other):
        return False
    size = max(decimal_exponent(one), decimal_exponent(other), 0)
    one, other = lifted(context(DIGITS + size), one, other)
    largest = min(1, max(abs(one), abs(other)))
    return bool(abs(one - other) * CLOSE.denominator <= largest)
