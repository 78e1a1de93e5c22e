"""Answers in LaTeX, read as what they are."""

import itertools
import unicodedata
from collections.abc import Collection, Iterator

from warmup_distill.scoring.mathematics.formulas import is_symbol, parse
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
from warmup_distill.scoring.mathematics.tokens import CLOSING, OPENING, WORD, Tokens, tokenize
from warmup_distill.scoring.mathematics.units import split_unit

_RELATIONS = ("=", "<", ">", "<=", ">=", "!=", "\\in")
_SEPARATORS = (",", ";")
_PUNCTUATION = (".", ",", ";", ":")
_MATRICES = ("matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array")
MOST_TOKENS = 10_000
"""Of an answer that is read; a longer one is compared as it stands."""
DEEPEST = 10
"""Lists within tuples within sets, the same."""
MOST_CHOICES = 3
"""Signs ± in one item, each of which doubles it, the same."""


def read(text: str, *, thousands: bool = True) -> Answer:
    """What an answer is.

    Args:
        text: LaTeX, without the dollars around it.
        thousands: as `tokenize`.
    """
    tokens = tokenize(text, thousands=thousands)
    return _read(tokens, 0) if len(tokens) <= MOST_TOKENS else Formula(tokens)


def plain(tokens: Tokens) -> str:
    """Tokens as a text to compare, without case, spaces and dots."""
    joined = "".join(token.removeprefix(WORD) for token in tokens)
    return unicodedata.normalize("NFKC", joined).casefold().replace(".", "")


def split(tokens: Tokens, signs: Collection[str]) -> tuple[list[Tokens], Tokens]:
    """What stands between signs that are in no brackets, and these signs."""
    parts: list[list[str]] = [[]]
    found, depth = [], 0
    for token in tokens:
        if not depth and token in signs:
            found.append(token)
            parts.append([])
        else:
            depth = max(0, depth + _step(token))
            parts[-1].append(token)
    return [tuple(part) for part in parts], tuple(found)


def _step(token: str) -> int:
    """1 where a bracket opens, -1 where one closes."""
    opens = token in OPENING or token.startswith("\\begin{")
    return opens - (token in CLOSING or token.startswith("\\end{"))


def _is_enclosed(tokens: Tokens) -> bool:
    """Whether a bracket begins tokens and its end is the last one."""
    depth = 0
    for place, token in enumerate(tokens):
        depth += _step(token)
        if depth <= 0:
            return place > 0 and place == len(tokens) - 1
    return False


def _read(tokens: Tokens, depth: int) -> Answer:
    end = len(tokens)
    while end and tokens[end - 1] in _PUNCTUATION:
        end -= 1
    tokens = tokens[:end]
    if tokens[:1] == ("{",) and _is_enclosed(tokens):
        tokens = tokens[1:-1]
    if depth > DEEPEST:
        return Formula(tokens)
    items = [*_items(tokens, depth)]
    return items[0] if len(items) == 1 else Several(tuple(items))


def _items(tokens: Tokens, depth: int) -> Iterator[Answer]:
    """The items of a list, those with ± for each sign."""
    parts = [part for part in split(tokens, _SEPARATORS)[0] if part]
    for part in parts or [()]:
        for choice in _choices(part):
            yield _item(choice, depth)


def _choices(tokens: Tokens) -> Iterator[Tokens]:
    count = tokens.count("\\pm")
    if not 0 < count <= MOST_CHOICES or tokens[0] == "\\{":
        yield tokens
        return
    for signs in itertools.product("+-", repeat=count):
        left = iter(signs)
        last, chosen = "+", []
        for token in tokens:
            last = next(left) if token == "\\pm" else last
            other = {"\\pm": last, "\\mp": "-" if last == "+" else "+"}
            chosen.append(other.get(token, token))
        yield tuple(chosen)


def _item(tokens: Tokens, depth: int) -> Answer:
    sides, signs = split(tokens, _RELATIONS)
    if signs:
        return _relation(sides, signs, depth)
    for sign, make in (("\\cup", Union), (":", _ratio)):
        parts, _ = split(tokens, (sign,))
        if len(parts) > 1 and all(parts):
            return make(tuple(_read(part, depth + 1) for part in parts))
    if _is_enclosed(tokens):
        return _enclosed(tokens, depth)
    found = split_unit(tokens)
    return Text(plain(tokens)) if found is None or not found[0] else Formula(*found)


def _ratio(items: tuple[Answer, ...]) -> Bracketed:
    return Bracketed(":", items, ":")


def _relation(sides: list[Tokens], signs: Tokens, depth: int) -> Answer:
    if not sides[0] and signs[0] in ("=", "\\in"):  # `= 5`
        sides, signs = sides[1:], signs[1:]
    answers = [_read(side, depth + 1) for side in sides]
    if not signs or signs[-1] == "\\in":
        return answers[-1]
    return Relation(tuple(answers), signs, sides[0] if is_name(sides[0]) else None)


def is_name(tokens: Tokens) -> bool:
    """Whether tokens are the name of something: `x_1`, `f(x)`, `(x, y)`, `AB`, `\\text{area}`."""
    if tokens[:2] == ("m", "\\angle"):
        tokens = tokens[1:]
    words = [token for token in tokens if token[0] == WORD or is_symbol(token)]
    if words[:1] == [*tokens[:1]] and tokens[1:2] == ("(",) and _is_enclosed(tokens[1:]):
        return True
    if words and tokens[0][0] in f"({WORD}" and {*tokens} <= {*words, "(", ")", ","}:
        return True
    tree = parse(tokens)
    return tree is not None and tree[0] == "name" and not tree[1][0].isdigit()


def _enclosed(tokens: Tokens, depth: int) -> Answer:
    opening, inside, closing = tokens[0], tokens[1:-1], tokens[-1]
    if opening.startswith("\\begin{"):
        return _matrix(opening[len("\\begin{") : -1], tokens, depth)
    if opening == "\\{":
        return _set(inside, depth) if closing == "\\}" else Formula(tokens)
    parts, _ = split(inside, _SEPARATORS)
    if len(parts) > 1 and opening in ("(", "[", "\\langle"):
        return Bracketed(opening, tuple(_item(part, depth + 1) for part in parts), closing)
    if (opening, closing) in (("(", ")"), ("[", "]"), ("{", "}")):
        return _read(inside, depth + 1)
    return Formula(tokens)


def _set(inside: Tokens, depth: int) -> Answer:
    """A set by its elements, or by a condition, as in `\\{x : x > 3\\}`."""
    if not inside:
        return Formula(("\\emptyset",))
    parts, _ = split(inside, ("|", ":"))
    if len(parts) == 2 and (is_name(parts[0]) or "\\in" in parts[0]):
        return _read(parts[1], depth + 1)
    items = [*_items(inside, depth + 1)]
    return items[0] if len(items) == 1 else Several(tuple(items))


def _matrix(kind: str, tokens: Tokens, depth: int) -> Answer:
    if kind not in (*_MATRICES, "vmatrix") or tokens[-1] != f"\\end{{{kind}}}":
        return Formula(tokens)
    rows = [row for row in split(tokens[1:-1], ("\\\\",))[0] if row]
    cells = [[_read(cell, depth + 1) for cell in split(row, ("&",))[0]] for row in rows]
    return Matrix("determinant" if kind == "vmatrix" else "matrix", tuple(map(tuple, cells)))
