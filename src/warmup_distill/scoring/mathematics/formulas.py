"""Formulas in LaTeX as trees; what is not understood to the last token is not understood.

A tree is a tuple of an operation and its operands: `("sum", ("number", "1"), ("name", "x"))`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from warmup_distill.scoring.mathematics.signs import FUNCTIONS, GREEK
from warmup_distill.scoring.mathematics.tokens import Tokens

Tree = tuple[Any, ...]

LONGEST = 2000
"""Tokens of a formula; longer ones are compared as they stand."""
DEEPEST = 40
"""Brackets within brackets, the same."""
MOST_MARKS = 4
"""Exponents, factorials and degrees after one operand, the same."""

CONSTANTS = {"\\pi": "pi", "\\infty": "infinity", "e": "e", "i": "i"}
_DECORATIONS = ("\\overline", "\\vec", "\\hat", "\\bar", "\\tilde", "\\mathbb", "\\mathcal")
_PREFIXES = ("\\triangle", "\\angle", "\\measuredangle")
_FENCES = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil", "|": "|"}
_FENCED = {"\\lfloor": "floor", "\\lceil": "ceiling", "|": "absolute"}
_POSTFIX = {"!": "factorial", "°": "degrees"}
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}


class NotUnderstoodError(ValueError):
    """Tokens that are no formula that we know."""


@lru_cache(maxsize=4096)
def parse(tokens: Tokens) -> Tree | None:
    """The tree of a formula; None where it is not understood."""
    parser = _Parser(tokens)
    try:
        tree = parser.sum()
    except NotUnderstoodError:
        return None
    return tree if parser.next == "" else None


def is_symbol(token: str) -> bool:
    """Whether a token names something: a letter, `AB`, `\\theta`."""
    return token[:1].isalpha() or token == "\\ell" or (token[:1] == "\\" and token[1:] in GREEK)


def is_digits(token: str) -> bool:
    """Whether a token is a number."""
    return token[:1].isdigit() or token[:1] == "."


class _Parser:
    """One method per level of binding, from the loosest to the tightest."""

    def __init__(self, tokens: Tokens) -> None:
        if len(tokens) > LONGEST:
            tokens = ()
        self.tokens = [*tokens]
        self.place = 0
        self.depth = 0
        self.bars = 0

    @property
    def next(self) -> str:
        """The token that comes; an empty one after the last."""
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self) -> str:
        token = self.next
        self.place += 1
        return token

    def accept(self, token: str) -> bool:
        found = self.next == token
        self.place += found
        return found

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise NotUnderstoodError

    def sum(self) -> Tree:
        terms = [self.signed(self.product)]
        while self.next in ("+", "-"):
            terms.append(self.signed(self.product))
        return terms[0] if len(terms) == 1 else ("sum", *terms)

    def signed(self, operand: Callable[[], Tree]) -> Tree:
        negative = False
        while self.next in ("+", "-"):
            negative ^= self.take() == "-"
        tree = operand()
        return ("negative", tree) if negative else tree

    def product(self) -> Tree:
        factors = [self.power()]
        while True:
            if self.accept("*"):
                factors.append(self.signed(self.power))
            elif self.accept("/"):
                factors.append(("reciprocal", self.signed(self.power)))
            elif self.begins_factor():
                factors.append(self.power())
            else:
                return factors[0] if len(factors) == 1 else ("product", *factors)

    def begins_factor(self) -> bool:
        """Whether what follows without a sign between is another factor."""
        token = self.next
        if token == "|":
            return not self.bars
        known = ("\\frac", "\\sqrt", "\\binom", *CONSTANTS, *_DECORATIONS, *_PREFIXES, *_FENCES)
        return token in known or is_symbol(token) or self.is_function(token)

    def is_function(self, token: str) -> bool:
        return token[:1] == "\\" and token[1:] in FUNCTIONS

    def power(self) -> Tree:
        tree = self.atom()
        for _ in range(MOST_MARKS):
            if self.accept("^"):
                tree = ("power", tree, self.signed(self.exponent))
            elif self.next in _POSTFIX:
                tree = (_POSTFIX[self.take()], tree)
        return tree

    def exponent(self) -> Tree:
        # No mixed number: `x^2\frac{1}{3}` is a product.
        return ("number", self.take()) if is_digits(self.next) else self.atom()

    def atom(self) -> Tree:
        self.depth += 1
        if self.depth > DEEPEST:
            raise NotUnderstoodError
        tree = self.begun_by(self.take())
        self.depth -= 1
        return tree

    def begun_by(self, token: str) -> Tree:
        """What begins with a token and binds as tightly as a number."""
        if is_digits(token):
            return self.number(token)
        if token in CONSTANTS:
            return ("constant", CONSTANTS[token])
        if token in _FENCES:
            return self.fenced(token)
        if self.is_function(token):
            return self.function(token[1:])
        if is_symbol(token):
            return self.name(token)
        return self.command(token)

    def number(self, digits: str) -> Tree:
        """Digits; with a base, `52_8`; or a mixed number, `1\\frac{4}{5}` and `1 4/5`."""
        number = ("number", digits)
        if self.next == "_":
            return ("name", digits + self.subscript())
        if not digits.isdigit():
            return number
        rest = self.tokens[self.place : self.place + 3]
        if len(rest) == 3 and rest[1] == "/" and all(map(str.isdigit, rest[::2])):
            self.place += 3
            return ("sum", number, ("divide", ("number", rest[0]), ("number", rest[2])))
        if self.next != "\\frac":
            return number
        before, self.place = self.place, self.place + 1
        fraction = self.fraction()
        if all(part[0] == "number" and part[1].isdigit() for part in fraction[1:]):
            return ("sum", number, fraction)
        self.place = before
        return number

    def fenced(self, opening: str) -> Tree:
        outer, self.bars = self.bars, int(opening == "|")
        tree = self.sum()
        self.expect(_FENCES[opening])
        self.bars = outer
        return (_FENCED[opening], tree) if opening in _FENCED else tree

    def name(self, token: str) -> Tree:
        """A name with its subscript and primes; `f(…)` and `g(…)` are functions."""
        name = token
        while self.next in ("_", "'"):
            name += self.subscript() if self.next == "_" else self.take()
        if token in ("f", "g") and self.accept("("):
            arguments = [self.sum()]
            while self.accept(","):
                arguments.append(self.sum())
            self.expect(")")
            return ("call", name, *arguments)
        return ("name", name)

    def subscript(self) -> str:
        """`_1` and `_{12}`, without the braces."""
        self.expect("_")
        token = self.take()
        if token != "{":
            return f"_{token}"
        inside = []
        while (token := self.take()) not in ("}", ""):
            inside.append(token)
        return "_" + "".join(inside)

    def function(self, name: str) -> Tree:
        """`\\sin 2x`, `\\sin^2 x`, `\\sin^{-1} x`, `\\log_2 8`; brackets hold the whole operand."""
        base = self.argument_after("_")
        exponent = self.argument_after("^")
        if self.next in _FENCES:
            operand = self.atom()
        else:
            factors = [self.signed(self.power)]
            while self.begins_factor() and not self.is_function(self.next):
                factors.append(self.power())
            operand = ("product", *factors)
        if exponent == ("negative", ("number", "1")) and name in _INVERSES:
            name, exponent = _INVERSES[name], None
        tree = ("function", name, operand) if base is None else ("logarithm", base, operand)
        return tree if exponent is None else ("power", tree, exponent)

    def argument_after(self, mark: str) -> Tree | None:
        return self.argument() if self.accept(mark) else None

    def argument(self) -> Tree:
        """What TeX takes as one: braces, or a single sign, so that `\\frac12` is a half."""
        digits = self.next
        if is_digits(digits) and len(digits) > 1:
            self.tokens[self.place : self.place + 1] = [digits[0], digits[1:]]
        if is_digits(digits):
            return ("number", self.take())
        return self.atom()

    def command(self, token: str) -> Tree:
        if token == "\\frac":
            return self.fraction()
        if token == "\\binom":
            return ("binomial", self.argument(), self.argument())
        if token == "\\sqrt":
            degree = self.fenced("[") if self.accept("[") else ("number", "2")
            return ("root", self.argument(), degree)
        if token in _DECORATIONS or token in _PREFIXES:
            return ("name", token + self.decorated())
        raise NotUnderstoodError

    def fraction(self) -> Tree:
        return ("divide", self.argument(), self.argument())

    def decorated(self) -> str:
        """The names that belong to a decoration."""
        opened = self.accept("{")
        names = ""
        while is_symbol(self.next):
            names += self.take()
        if opened:
            self.expect("}")
        return names
