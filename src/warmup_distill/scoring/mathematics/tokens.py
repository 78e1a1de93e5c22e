"""LaTeX as tokens: what only sets the type is gone, what means something is kept.

A token is a sign, a number in digits, a command with its backslash, a name such as `x` or `AB`, or
a word: text, with a quote before it.
"""

import re
import unicodedata
from collections.abc import Iterator

from warmup_distill.scoring.mathematics.signs import (
    CHARACTERS,
    FUNCTIONS,
    GREEK,
    NAMES,
    RENAMED,
    SETS_TYPE,
    SHORT_UNITS,
    SHORT_WORDS,
)

Tokens = tuple[str, ...]

WORD = '"'
OPENING = frozenset(["(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"])
CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"])

_BETWEEN_THOUSANDS = r"(?P<separator>,|\{,\}|\\[,;: ]|~| )\d{3}(?:(?P=separator)\d{3})*(?!\d)"
_TOKEN = re.compile(
    r"\\(?P<font>text[a-z]*|mbox|hbox|math(?:rm|bf|it|sf)|operatorname\*?)\s*\{(?P<text>[^{}]*)\}"
    r"|\\(?P<edge>begin|end)\s*\{(?P<environment>[a-z]+)\*?\}"
    r"|(?P<start>\d*\.\d*)\\(?:overline|bar|dot)\s*\{(?P<period>\d+)\}"
    rf"|(?P<number>(?:\d{{1,3}}{_BETWEEN_THOUSANDS}|\d+)(?:\.\d+)?|\.\d+)"
    r"(?P<exponent>[eE][+-]?\d{1,4}(?![\w.]))?"
    r"|(?P<command>\\[A-Za-z]+|\\.)"
    r"|(?P<letters>[^\W\d_]+)"
    r"|(?P<sign><=|>=|!=|==|\*\*|\S)",
    re.DOTALL,
)
_ONE_CHARACTER = re.compile("[¼-¾⅐-⅞]|[⁰¹²³⁴-⁹⁻]+|(?P<below>[₀-₉]+)")
_DIGITS_ALONE = re.compile(r"[^\d.]")
_WORD = re.compile(r"[^\W\d_]+(?:[.'-]+[^\W\d_]+)*\.?")
_JOINED = (
    (re.compile(r"\\[hv]?phantom ?(?:\{[^{}]*\}|.)|\\[hv]space\*? ?\{[^{}]*\}"), ""),
    (re.compile(r" ?(?:, ?\\!|\{ ?, ?\}) ?"), "{,}"),
    (re.compile(r"\.{3,}|…"), r"\\ldots "),
    (re.compile(r"(\\sqrt ?)(\d)(?=\d)"), r"\1{\2}"),
    (re.compile(r"\^ ?(?:\\circ(?![A-Za-z])|\{ ?\\circ ?\})"), "°"),
    (re.compile(r"\^ ?(?:\\prime(?![A-Za-z])|\{ ?\\prime ?\})"), "'"),
    (re.compile(r"(\\begin ?\{(?:array|tabular)\}) ?\{[^{}]*\}"), r"\1"),
)
_FONTS_OF_NAMES = ("mathbf", "mathit", "mathsf")
_NO_WORDS = {
    "mathrm": (*FUNCTIONS, "e", "i", "d"),  # other letters are units
    "operatorname": FUNCTIONS,
    "operatorname*": FUNCTIONS,
}
_OPERATORS = ("+", "-", "*", "=", "(", "\\")
_LONGEST_PRODUCT = 3
"""Letters in a row that are a product, such as `abc`; more are a word."""


def tokenize(text: str, *, thousands: bool = True) -> Tokens:
    """An answer as tokens.

    Args:
        text: LaTeX, without the dollars around it.
        thousands: whether `1,234` is one number. Within brackets it is two, as in `(20,100)`,
            unless the second could not be a number by itself, as in `(1,000)`.
    """
    text = _ONE_CHARACTER.sub(_spelled, text)
    text = "".join(str(unicodedata.decimal(c, c)) if c > "\x7f" else c for c in text)
    text = " ".join(text.translate(CHARACTERS).split())
    for pattern, replacement in _JOINED:
        text = pattern.sub(replacement, text)
    return tuple(_tokens(text, thousands))


def _spelled(found: re.Match[str]) -> str:
    """`x¹⁰` as `x^{10}`, `x₁` as `x_{1}`, and `⅞` as `\\frac{7}{8}`."""
    plain = unicodedata.normalize("NFKC", found[0])
    above, slash, below = plain.partition("\N{FRACTION SLASH}")
    if slash:
        return f"\\frac{{{above}}}{{{below}}}"
    return f"{'_' if found['below'] else '^'}{{{plain}}}"


def _tokens(text: str, thousands: bool) -> Iterator[str]:
    place, depth, before = 0, 0, ""
    while match := _TOKEN.search(text, place):
        spaced, place = match.start() > place, match.end()
        found = _expanded(match, before, spaced, text[place : place + 2].lstrip()[:1])
        if _is_list(match, thousands and not depth):
            found = iter([match["number"].partition(",")[0]])
            place = text.index(",", match.start())
        for token in found:
            token = RENAMED.get(token, token)
            if token not in SETS_TYPE:
                depth += (token in OPENING - {"{"}) - (token in CLOSING - {"}"})
                before = token
                yield token


def _is_list(match: re.Match[str], joined: bool) -> bool:
    """Whether the commas of a number stand between numbers."""
    if match["separator"] != "," or joined:
        return False
    return any(part[0] != "0" for part in match["number"].split(",")[1:])


def _expanded(match: re.Match[str], before: str, spaced: bool, after: str) -> Iterator[str]:
    """The tokens of what was found between the token `before` and the sign `after`."""
    if match["text"] is not None:
        yield from _text(match["text"], match["font"])
    elif match["edge"]:
        yield f"\\{match['edge']}{{{match['environment']}}}"
    elif match["period"]:
        yield f"{match['start']}({match['period']})"
    elif match["number"]:
        yield _DIGITS_ALONE.sub("", match["number"]) + (match["exponent"] or "")
    elif match["letters"]:
        if _is_unit(match["letters"], before, spaced, after):
            yield WORD + match["letters"]
        else:
            yield from _letters(match["letters"])
    else:
        yield match["command"] or match["sign"]


def _text(content: str, font: str) -> Iterator[str]:
    """The words of a text; in a font for formulas, names and functions stay what they are."""
    place = 0
    for match in _WORD.finditer(content):
        yield from _tokens(content[place : match.start()], thousands=True)
        word, place = match[0], match.end()
        if word in _NO_WORDS.get(font, ()) or (len(word) == 1 and font in _FONTS_OF_NAMES):
            yield from _letters(word)
        else:
            yield "," if word.lower() in ("and", "or") else WORD + word
    yield from _tokens(content[place:], thousands=True)


def _letters(run: str) -> Iterator[str]:
    """Letters in a row outside a text: a function, a word, a name, or a product of names."""
    if run in FUNCTIONS or (run in GREEK and len(run) > _LONGEST_PRODUCT):
        yield f"\\{run}"
    elif run in NAMES:
        yield NAMES[run]
    elif run.lower() in SHORT_WORDS or (len(run) > _LONGEST_PRODUCT and not run.isupper()):
        yield WORD + run
    elif run.isupper():
        yield run
    else:
        yield from run


def _is_unit(run: str, before: str, spaced: bool, after: str) -> bool:
    """Whether a run of letters is a unit of what stands before it, as in `5 cm` or `5 mph`."""
    if not (before[-1:].isdigit() or before in CLOSING) or after in _OPERATORS:
        return False
    return run.lower() in SHORT_UNITS or (spaced and len(run) == _LONGEST_PRODUCT)
