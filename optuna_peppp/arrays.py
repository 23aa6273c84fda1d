"""Arrays that records hold: copies that are checked and cannot be changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray


def read_only(name: str, values: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A read-only copy."""
    array = np.array(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape}, one row per task and one column per configuration "
            f"of space; got {array.shape}"
        )
    array.flags.writeable = False
    return array


def refuse(message: str, array: NDArray[np.float64], bad: NDArray[np.bool_]) -> None:
    """Raises ``message`` with the first bad entry of an array of any shape, if there is any."""
    if bad.any():
        place = tuple(np.argwhere(bad)[0].tolist())
        raise ValueError(f"{message}[{', '.join(map(str, place))}] is {array[place]}")


_BLOCK: Final = 2**19
"""Entries, of 8 bytes, that are worked on at a time."""


def blocks(count: int, width: int) -> Iterator[slice]:
    """Consecutive slices of ``count`` rows of ``width`` entries, of so many entries at most."""
    size = max(1, _BLOCK // max(width, 1))
    return (slice(first, first + size) for first in range(0, count, size))


def freeze(record: object, name: str, shape: tuple[int, ...]) -> None:
    """Replaces an attribute by a read-only copy, checked."""
    array = np.array(getattr(record, name), dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite with shape {shape}; got {array.shape}")
    array.flags.writeable = False
    object.__setattr__(record, name, array)
