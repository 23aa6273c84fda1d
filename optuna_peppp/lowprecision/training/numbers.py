"""Numbers of settings: of any type of number, within bounds, as Python's own."""

from __future__ import annotations

import math
from numbers import Integral, Real


def whole(name: str, value: object, low: int = 1, high: int | None = None) -> int:
    """A whole number within bounds as Python's int.

    Raises:
        ValueError: It is none; the message says what ``name`` must be.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        found = int(value)
        if found >= low and (high is None or found <= high):
            return found
    bounds = f"at least {low}" if high is None else f"between {low} and {high}"
    raise ValueError(f"{name} must be a whole number, {bounds}; got {value!r}")


def number(name: str, value: object, below: float = math.inf, *, zero: bool = True) -> float:
    """A number from 0, or above it, to below a bound as Python's float.

    Raises:
        ValueError: It is none; the message says what ``name`` must be.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        found = float(value)
        if found < below and (found > 0 or (zero and found == 0)):
            return found
    least = "at least 0" if zero else "above 0"
    bound = "finite" if below == math.inf else f"below {below:g}"
    raise ValueError(f"{name} must be a number, {least} and {bound}; got {value!r}")
