"""Amounts as people write them: ``275MB``, ``1.5MiB``, ``1.5 ms``.

An amount is a number in a *unit*, bytes unless another is named. Units of one quantity form a
family, of which text may use any: with the unit ``s``, ``"1.5ms"`` is 0.0015. A unit that is in no
family, such as ``USD``, stands for itself.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from numbers import Real
from typing import Final

from optuna_peppp.numerals import NUMBER
from optuna_peppp.text import quoted


def _decimal(base: str, prefixes: str, first: int) -> dict[str, float]:
    """Units of a base unit, each a thousand times the one before; ``-`` is the base itself."""
    powers = enumerate(prefixes, start=first)
    return {f"{prefix.strip('-')}{base}": 1000.0**power for power, prefix in powers}


_FAMILIES: Final[tuple[tuple[dict[str, float], dict[str, float]], ...]] = (
    (
        _decimal("B", "-kMGT", 0),
        {f"{prefix}iB": 1024.0**power for power, prefix in enumerate("KMGT", start=1)},
    ),
    (_decimal("s", "num-", -3), {"µs": 1e-6, "min": 60.0, "h": 3600.0}),
    (_decimal("J", "num-kM", -3), {}),
    (_decimal("Wh", "m-kM", -1), {}),
    (_decimal("FLOP", "-kMGTPE", 0), {}),
    (_decimal("", "-kMG", 0), {}),
)
"""Units in multiples of a base unit: those to print amounts in, by growing size; others to read."""

_TEXT: Final = re.compile(rf"({NUMBER})\s*(.*)", re.ASCII | re.IGNORECASE)


def parse_size(size: str | float, unit: str = "B") -> float:
    """An amount such as ``"275MB"`` (10**6), ``"1.5MiB"`` (2**20), or a number, in the unit.

    Args:
        size: A number, which is in ``unit``, or text of a number and a unit of its family.
        unit: The unit of the result.

    Raises:
        ValueError: It is neither a number nor a text of a number with a known unit, or it is not
            positive and finite.

    >>> parse_size("1.5 KiB"), parse_size("275MB"), parse_size("1e9"), parse_size(4096)
    (1536.0, 275000000.0, 1000000000.0, 4096.0)
    >>> parse_size("1.5ms", "s"), parse_size("2 s", "ms"), parse_size("0.3USD", "USD")
    (0.0015, 2000.0, 0.3)
    """
    value = math.nan
    if isinstance(size, str):
        match = _TEXT.fullmatch(size.strip())
        if match and (factor := _factor(match[2], unit)):
            value = float(match[1]) * factor
    elif isinstance(size, Real) and not isinstance(size, bool):
        with suppress(OverflowError):
            value = float(size)
    if not 0 < value < math.inf:
        expected = (
            "a positive number of bytes or a number with a unit, such as '275MB' or '1.5MiB'"
            if unit == "B"
            else f"a positive number, with or without its unit, such as {f'1.5{unit}'!r}"
        )
        raise ValueError(f"a size must be {expected}; got {quoted(size)}")
    return value


def format_size(size: float, unit: str = "B") -> str:
    """An amount, to four digits, in the largest unit of its family that keeps it at least 1.

    >>> format_size(275e6), format_size(999), format_size(1_234_567)
    ('275 MB', '999 B', '1.235 MB')
    >>> format_size(0.0015, "s"), format_size(11_700_000, ""), format_size(0.3, "USD")
    ('1.5 ms', '11.7 M', '0.3 USD')
    """
    written, read = _family(unit)
    amount = size * (written | read)[unit]
    smallest = next(iter(written))
    name = next((name for name in reversed(written) if amount >= written[name]), smallest)
    return f"{amount / written[name]:.4g} {name}".rstrip()


def base_unit(unit: str) -> str:
    """The unit that the others of its family are multiples of.

    >>> base_unit("ms"), base_unit("USD")
    ('s', 'USD')
    """
    written, _ = _family(unit)
    return next(name for name, factor in written.items() if factor == 1)


def _family(unit: str) -> tuple[dict[str, float], dict[str, float]]:
    """The family of a unit."""
    alone: tuple[dict[str, float], dict[str, float]] = ({unit: 1.0}, {})
    return next((family for family in _FAMILIES if any(unit in part for part in family)), alone)


def _factor(written: str, unit: str) -> float | None:
    """What a number is multiplied with that is written with one unit and meant in another.

    Case decides only between units that differ in nothing else: mJ and MJ.
    """
    printed, read = _family(unit)
    known = printed | read
    if not written:
        return 1.0
    if written not in known:
        alike = [name for name in known if name.casefold() == written.casefold()]
        if len(alike) != 1:
            return None
        (written,) = alike
    return known[written] / known[unit]
