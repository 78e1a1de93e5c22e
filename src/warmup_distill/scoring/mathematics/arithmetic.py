"""The operations of formulas on numbers: fractions as long as they can be, else mpmath's."""

import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import reduce
from typing import Any
from zlib import crc32

import mpmath

from warmup_distill.scoring.mathematics.formulas import Tree

Number = Any
"""Fraction, mpf or mpc."""
Context = Any
"""An mpmath context, which has the number of digits."""

MOST_BITS = 50_000
"""Of an exact number; what is larger has no value here."""
LARGEST_OPERAND = 10_000
"""Of factorials, and of functions that grow or turn fast."""
LARGEST_LOGARITHM = 200_000


class NoValueError(ArithmeticError):
    """A value that is too large to be computed."""


class _Contexts(threading.local):
    """mpmath's contexts by number of digits; they cannot be shared by threads."""

    def __init__(self) -> None:
        self.by_digits: dict[int, Context] = {}


_contexts = _Contexts()


def context(digits: int = 15) -> Context:
    """A context that computes to so many digits."""
    if digits not in _contexts.by_digits:
        made = mpmath.MPContext()
        made.dps = digits
        _contexts.by_digits[digits] = made
    return _contexts.by_digits[digits]


def evaluate(tree: Tree, names: Mapping[str, Fraction], at: Context) -> Number:
    """The value of a formula.

    Raises:
        ArithmeticError, ValueError: it has none, or it is too large.
    """
    kind, *parts = tree
    if kind == "name":
        return names[parts[0]]
    if kind in _LEAVES:
        return _LEAVES[kind](at, parts[0])
    if kind in _OF_NAME:
        name, *parts = parts
        return _OF_NAME[kind](name, at, *(evaluate(part, names, at) for part in parts))
    return _OPERATIONS[kind](at, *(evaluate(part, names, at) for part in parts))


def decimal_exponent(value: Number) -> int:
    """How many digits stand before the point of a number; negative for small ones."""
    if isinstance(value, Fraction):
        bits = abs(value.numerator).bit_length() - value.denominator.bit_length()
    else:
        bits = context().mag(value) if value else -(10**9)
    return math.ceil(bits * math.log10(2))


def lifted(at: Context, *values: Number) -> list[Number]:
    """Numbers as mpmath's."""
    return [
        at.mpf(value.numerator) / value.denominator
        if isinstance(value, Fraction)
        else at.convert(value)
        for value in values
    ]


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _is_whole(value: Number) -> bool:
    return isinstance(value, Fraction) and value.denominator == 1


def _number(at: Context, digits: str) -> Fraction:
    """`1.5`, `6e-5`, and `0.1(6)`, in which the digits in brackets repeat."""
    start, _, period = digits.rstrip(")").partition("(")
    if not period:
        return Fraction(start)
    places = len(start.partition(".")[2])
    return Fraction(start + "0") + Fraction(int(period), (10 ** len(period) - 1) * 10**places)


def _constant(at: Context, name: str) -> Number:
    return {"pi": +at.pi, "e": +at.e, "i": at.mpc(0, 1), "infinity": at.inf}[name]


def _either(exact: Callable[..., Number], at: Context, *values: Number) -> Number:
    """An operation of fractions, or the same of mpmath's numbers."""
    if not all(isinstance(value, Fraction) for value in values):
        return exact(*lifted(at, *values))
    found = exact(*values)
    if _bits(found) > MOST_BITS:
        raise NoValueError
    return found


def _sum(at: Context, *values: Number) -> Number:
    return reduce(lambda one, other: _either(lambda a, b: a + b, at, one, other), values)


def _product(at: Context, *values: Number) -> Number:
    return reduce(lambda one, other: _either(lambda a, b: a * b, at, one, other), values)


def _power(at: Context, base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and _is_whole(exponent):
        if (_bits(base) - 2) * abs(exponent) > MOST_BITS:
            raise NoValueError
        return base**exponent
    base, exponent = lifted(at, base, exponent)
    if base and abs(exponent * at.log(abs(base))) > LARGEST_LOGARITHM:
        raise NoValueError
    return at.power(base, exponent)


def _root(at: Context, value: Number, degree: Number) -> Number:
    """A negative number has an odd root."""
    if isinstance(value, Fraction) and value >= 0 and degree == 2:
        exact = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
        if exact**2 == value:
            return exact
    if _is_whole(degree) and degree % 2 and isinstance(value, Fraction) and value < 0:
        return -_power(at, -value, 1 / degree)
    return _power(at, value, 1 / degree)


def _factorial(at: Context, value: Number) -> Number:
    if abs(value) > LARGEST_OPERAND:
        raise NoValueError
    if _is_whole(value) and value >= 0:
        return Fraction(math.factorial(int(value)))
    return at.gamma(*lifted(at, value + 1))


def _binomial(at: Context, above: Number, below: Number) -> Number:
    if max(abs(above), abs(below)) > LARGEST_OPERAND:
        raise NoValueError
    if _is_whole(above) and _is_whole(below) and min(above, below) >= 0:
        return Fraction(math.comb(int(above), int(below)))
    return at.binomial(*lifted(at, above, below))


def _floor(at: Context, value: Number) -> Number:
    return Fraction(math.floor(value)) if isinstance(value, Fraction) else at.floor(value)


def _function(name: str, at: Context, value: Number) -> Number:
    (operand,) = lifted(at, value)
    if abs(operand) > LARGEST_OPERAND and name not in ("ln", "log"):
        raise NoValueError
    return getattr(at, {"ln": "log", "log": "log10"}.get(name, name.replace("arc", "a")))(operand)


def _call(name: str, at: Context, *values: Number) -> Number:
    """Some function of that name, about which nothing is known: one that no formula would hit."""
    turned = [value / (2 + place) for place, value in enumerate(lifted(at, *values))]
    return _function(
        "sin", at, at.mpf(crc32(name.encode("utf-8", "surrogatepass")) % 9973) / 100 + sum(turned)
    )


_LEAVES: dict[str, Callable[[Context, str], Number]] = {"number": _number, "constant": _constant}
_OF_NAME: dict[str, Callable[..., Number]] = {"function": _function, "call": _call}
_OPERATIONS: dict[str, Callable[..., Number]] = {
    "sum": _sum,
    "product": _product,
    "negative": lambda at, value: -value,
    "reciprocal": lambda at, value: _either(lambda one: 1 / one, at, value),
    "divide": lambda at, one, other: _either(lambda a, b: a / b, at, one, other),
    "power": _power,
    "root": _root,
    "factorial": _factorial,
    "binomial": _binomial,
    "absolute": lambda at, value: abs(value),
    "floor": _floor,
    "ceiling": lambda at, value: -_floor(at, -value),
    "degrees": lambda at, value: lifted(at, value)[0] * at.pi / 180,
    "logarithm": lambda at, base, value: at.log(*lifted(at, value, base)),
}
