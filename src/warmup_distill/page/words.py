"""Text and numbers as the page shows them."""

from collections.abc import Sequence
from typing import Any

MINUS = "\N{MINUS SIGN}"


def count(value: int) -> str:
    """A count with thousands separated.

    Example:
        >>> count(12345)
        '12,345'
    """
    return f"{value:,}".replace("-", MINUS)


def rounded(value: int) -> str:
    """A count of which only the size matters, to two digits.

    Example:
        >>> rounded(7), rounded(3141), rounded(99_999)
        ('7', '3,100', '100,000')
    """
    return count(round(value, 2 - len(str(value))))


def decimal(value: float, digits: int = 1, *, sign: bool = False) -> str:
    """A number with a fixed number of digits and a true minus sign; `sign` adds a plus."""
    text = f"{value:{'+' if sign else ''}z,.{digits}f}"  # z: what rounds to zero is not negative
    return text.replace("-", MINUS)


def percent(part: float, whole: float = 1) -> str:
    """A share in percent.

    Example:
        >>> percent(1, 3), percent(1, 40)
        ('33.3%', '2.5%')
    """
    return f"{decimal(100 * part / whole if whole else 0.0)}%"


def operations(value: int) -> str:
    """Floating-point operations.

    Example:
        >>> operations(1_340_000_000_000_000), operations(0)
        ('1.3e15', '0')
    """
    return f"{value:.1e}".replace("e+", "e") if value else "0"


def ratio(value: float) -> str:
    """How many times something, in four characters.

    Example:
        >>> ratio(0.4061), ratio(0), ratio(12.34)
        ('0.41', '0', '12.3')
    """
    return f"{value:.{2 if value < 9.995 else 1}f}" if value else "0"


def enumeration(parts: Sequence[str]) -> str:
    """Parts of a sentence.

    Example:
        >>> enumeration(["one", "two", "three"])
        'one, two and three'
    """
    return " and ".join([", ".join(parts[:-1]), *parts[-1:]] if len(parts) > 1 else parts)


def duration(seconds: float) -> str:
    """A time in the two units that matter.

    Example:
        >>> duration(4.24), duration(75), duration(7384)
        ('4.2 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def listing(counts: dict[str, Any]) -> str:
    """The numbers among some counts in one line.

    Example:
        >>> listing({"prompts": 1200, "too_long": 3})
        'prompts 1,200, too long 3'
    """
    numbers = {name: value for name, value in counts.items() if isinstance(value, int | float)}
    return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in numbers.items())
