"""Foreign text and values, fit to be shown: they steer no terminal, and they come in brief."""

import json
import re
import reprlib
from collections.abc import Iterable
from itertools import islice
from typing import Any

MOST_NAMES = 20
"""Names in a list of what is there, such as columns."""
MOST_NAME = 100
"""Characters of each."""

# Control characters but tab and newline, marks that turn the reading direction, and surrogates,
# which UTF-8 cannot hold. A model can write any of them; what shows them can be made to look like
# something else.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def clean(text: str) -> str:
    """The text without characters that hide or reorder what is read.

    Example:
        >>> clean("a\\x1b[31mb\\u202ec\\n")
        'a[31mbc\\n'
    """
    return _UNSAFE.sub("", text)


def json_line(value: Any, *, ascii_only: bool = False) -> str:
    """JSON in one line, in which the characters that `clean` removes are escaped instead."""
    line = json.dumps(value, ensure_ascii=ascii_only)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def brief(value: Any, width: int = 80) -> str:
    """A value as Python writes it, cut to so many characters; no more of it is built than that."""
    return _BRIEF.repr(value)[:width]


def listed(names: Iterable[Any]) -> str:
    """Names with commas between them, the first ones where there are many."""
    shown = list(islice(names, MOST_NAMES + 1))
    texts = [str(name)[:MOST_NAME] for name in shown[:MOST_NAMES]]
    return ", ".join(texts + ["…"] * (len(shown) > MOST_NAMES))


class _Brief(reprlib.Repr):
    """Python's bounded repr, which still builds the whole of bytes and of large numbers."""

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value[: self.maxstring])

    def repr_int(self, value: int, level: int) -> str:
        bits = value.bit_length()
        return repr(value) if bits <= 256 else f"a whole number of {bits:,} bits"


_BRIEF = _Brief()
_BRIEF.maxlevel, _BRIEF.maxlist, _BRIEF.maxtuple, _BRIEF.maxdict = 3, 8, 8, 8
_BRIEF.maxstring = _BRIEF.maxother = 100
