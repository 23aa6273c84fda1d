"""Amounts of memory as people write them: ``275MB``, ``1.5MiB``."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from numbers import Real
from typing import Final

from optuna_peppp.numerals import NUMBER
from optuna_peppp.text import quoted

_UNITS: Final = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)},
}
_TEXT: Final = re.compile(rf"({NUMBER})\s*([a-z]*)", re.ASCII | re.IGNORECASE)


def parse_size(size: str | float) -> float:
    """Bytes of a size such as ``"275MB"`` (10**6), ``"1.5MiB"`` (2**20) or a number of bytes.

    Raises:
        ValueError: It is neither a number nor a text of a number with a known unit, or it is not
            positive and finite.

    >>> parse_size("1.5 KiB"), parse_size("275MB"), parse_size("1e9"), parse_size(4096)
    (1536.0, 275000000.0, 1000000000.0, 4096.0)
    """
    value = math.nan
    if isinstance(size, str):
        match = _TEXT.fullmatch(size.strip())
        if match and (unit := _UNITS.get(match[2].lower())):
            value = float(match[1]) * unit
    elif isinstance(size, Real) and not isinstance(size, bool):
        with suppress(OverflowError):
            value = float(size)
    if not 0 < value < math.inf:
        raise ValueError(
            "a size must be a positive number of bytes or a number with a unit, "
            f"such as '275MB' or '1.5MiB'; got {quoted(size)}"
        )
    return value


def format_size(size: float) -> str:
    """A number of bytes, to four digits, in the largest decimal unit that keeps it at least 1.

    >>> format_size(275e6), format_size(999), format_size(1_234_567)
    ('275 MB', '999 B', '1.235 MB')
    """
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.4g} {unit}"
    return f"{size:.4g} B"
