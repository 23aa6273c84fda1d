"""Numbers as text spells them: one grammar for files and commands.

It is what every program reads alike: ASCII digits with a minus sign, a point and an exponent where
there are any. Python reads more: ``1_0`` and full-width digits as 10, ``nan``, ``infinity``.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from typing import Final

from optuna_peppp.text import quoted

NUMBER: Final = r"(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
"""A number without a sign, for patterns that ignore case and keep to ASCII."""

_INTEGER: Final = re.compile(r"-?\d+", re.ASCII)
_NUMBER: Final = re.compile(f"-?{NUMBER}", re.ASCII | re.IGNORECASE)


def parse_integer(text: str) -> int:
    """The integer that a text spells.

    Raises:
        ValueError: It spells none, or one of thousands of digits.

    >>> parse_integer("-12")
    -12
    """
    if _INTEGER.fullmatch(text):
        with suppress(ValueError):
            return int(text)
    raise ValueError(f"expected an integer such as 12; got {quoted(text)}")


def parse_number(text: str) -> float:
    """The finite number that a text spells.

    Raises:
        ValueError: It spells none, or one beyond the largest float.

    >>> parse_number("1e-3")
    0.001
    """
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    raise ValueError(f"expected a number such as 0.5 or 1e-3; got {quoted(text)}")


def is_number(text: str) -> bool:
    """Whether a text spells a number."""
    return _NUMBER.fullmatch(text) is not None


def resembles_number(text: str) -> bool:
    """Whether some program would read a number in a text that spells none.

    >>> [resembles_number(text) for text in ("1_0", "nan", "+.5", "0x1f", "1e999", "adam", "10")]
    [True, True, True, True, True, False, False]
    """
    for read in (parse_number, parse_integer):
        with suppress(ValueError):
            read(text)
            return False
    for foreign in (float, lambda digits: int(digits, 0)):
        with suppress(ValueError):
            foreign(text)
            return True
    return is_number(text)
