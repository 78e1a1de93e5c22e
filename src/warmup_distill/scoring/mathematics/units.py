"""Units around a formula, which do not count unless they contradict each other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from warmup_distill.scoring.mathematics.signs import FUNCTIONS
from warmup_distill.scoring.mathematics.tokens import WORD, Tokens

PERCENT, DEGREE = "%", "°"
_SYMBOLS = (PERCENT, DEGREE, "$", "€", "£", "¢")
_SPELLINGS = {
    "mm": "millimeter millimetre", "cm": "centimeter centimetre", "m": "meter metre",
    "km": "kilometer kilometre", "in": "inch inches", "ft": "foot feet", "yd": "yard",
    "mi": "mile", "mg": "milligram", "g": "gram gm", "kg": "kilogram", "oz": "ounce",
    "lb": "pound", "ml": "milliliter millilitre", "l": "liter litre", "gal": "gallon",
    "s": "second sec", "min": "minute", "h": "hour hr", "day": "", "week": "", "month": "",
    "year": "yr", "am": "", "pm": "", "$": "dollar usd", "cent": "¢", "€": "euro eur", "£": "gbp",
    "celsius": "c", "fahrenheit": "f", DEGREE: "degree deg", PERCENT: "percent percentage pct",
    "mi/h": "mph", "km/h": "kmh kph", "rad": "radian", "newton": "n", "kn": "kilonewton",
    "joule": "j", "kj": "kilojoule", "watt": "w", "kw": "kilowatt", "megawatt": "", "volt": "v",
    "ampere": "amp", "hz": "hertz", "khz": "kilohertz", "mhz": "megahertz", "pa": "pascal",
    "kpa": "kilopascal", "ohm": "", "kelvin": "", "mol": "mole", "cal": "calorie",
    "kcal": "kilocalorie",
}  # fmt: skip
_MEASURES = {
    spelling + plural: measure
    for measure, spellings in _SPELLINGS.items()
    for spelling in (measure, *spellings.split())
    for plural in ("", "s")
}
_DIRECTIONS = {
    "east": "east", "west": "west", "north": "north", "south": "south", "above": "above",
    "below": "below", "more": "more", "less": "less", "fewer": "less", "left": "left",
    "right": "right",
}  # fmt: skip
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_MULTIPLES = {
    "dozen": "12", "hundred": "100", "thousand": "1000", "million": "1000000",
    "billion": "1000000000", "trillion": "1000000000000",
}  # fmt: skip
_POWER = re.compile(r"\^ (?:\{ )?(-? ?\d)(?: \})?(?!\d)|\\frac|[/*(){}-]")


@dataclass(frozen=True)
class Unit:
    """The measures beside a formula; of other words, such as `apples`, nothing is kept."""

    measures: tuple[str, ...] = ()
    powers: tuple[int, ...] = ()
    directions: tuple[str, ...] = ()
    """Such as `east` and `more`."""

    def contradicts(self, other: "Unit") -> bool:
        """Whether both name measures, or directions, and other ones."""
        ours, theirs = (self.measures, self.powers), (other.measures, other.powers)
        measured = bool(self.measures and other.measures) and ours != theirs
        directed = bool(self.directions and other.directions)
        return measured or (directed and self.directions != other.directions)


NO_UNIT = Unit()


def split_unit(tokens: Tokens) -> tuple[Tokens, Unit] | None:
    """A formula and its unit: a currency before it, or what begins with a word or sign after it.

    None where words and formulas are mixed in another way.

    Example:
        >>> split_unit(("-", "5", '"square', '"feet'))
        (('-', '5'), Unit(measures=('ft',), powers=(2,)))
    """
    sign = tokens[:1] if tokens[:1] == ("-",) else ()
    currency = tokens[len(sign) : len(sign) + 1]
    if currency in (("$",), ("€",), ("£",)):
        tokens = sign + tokens[len(sign) + 1 :]
    else:
        currency = ()
    place = _beginning(tokens)
    formula, unit = tokens[:place], tokens[place:]
    if unit and (multiple := _MULTIPLES.get(_plain(unit[0]))):
        formula, unit = ("(", *formula, ")", "*", multiple), unit[1:]
    words = _POWER.sub("", " ".join(unit)).split()
    return (formula, _unit(currency + unit)) if all(map(_is_unit, words)) else None


def _is_unit(token: str) -> bool:
    return token[0] == WORD or token in _SYMBOLS


def _beginning(tokens: Tokens) -> int:
    """Where a unit begins: at the first word, or at the signs that end a formula."""
    words = (i for i, token in enumerate(tokens) if token[0] == WORD)
    place = next(words, len(tokens))
    if tokens[max(0, place - 2) : place] == ("\\frac", "{"):
        place -= 2
    while place and _is_unit(tokens[place - 1]):
        place -= 1
    # The degrees of an angle within a formula are no unit of it.
    in_formula = any(token == DEGREE or token[1:] in FUNCTIONS for token in tokens[:place])
    return place + 1 if tokens[place : place + 1] == (DEGREE,) and in_formula else place


def _unit(tokens: Tokens) -> Unit:
    found = [*_measures(tokens)]
    words = (_DIRECTIONS.get(_plain(token)) for token in tokens)
    return Unit(
        tuple(measure for measure, _ in found),
        tuple(power for _, power in found),
        tuple(word for word in words if word),
    )


def _measures(tokens: Tokens) -> Iterator[tuple[str, int]]:
    """Each measure with its power, from `square feet` as from `ft^2`."""
    power = 1
    for place, token in enumerate(tokens):
        word = _plain(token)
        power = max(power, _POWERS.get(word, 1))
        if word in _MEASURES:
            after = _POWER.match(" ".join(tokens[place + 1 : place + 5]))
            written = int(after[1].replace(" ", "")) if after and after[1] else power
            yield from ((part, written) for part in _MEASURES[word].split("/"))
            power = 1


def _plain(token: str) -> str:
    return token.removeprefix(WORD).lower().replace(".", "")
