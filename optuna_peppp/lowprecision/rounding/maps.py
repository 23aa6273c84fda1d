"""The arithmetic of optimizer states: a scale a block, and the nearest number of a table.

To nearest, the last bits are those of torchao 0.18, ``quantize_8bit_with_qmap`` and
``quantize_4bit_with_qmap``: of a number x between the neighbours d and u of a table, the upper is
taken where

    x - d >= (u - d) / 2,                                                                        (1)

computed in float32. As x - d grows with x, (1) is x >= t for some t, which is found beforehand.
Stochastically, it is u with probability (x - d) / (u - d).

The first bits of x name a cell, a range of numbers with one threshold at most. So x is compared
once, where a search would compare it eight times.

Different from torchao, on purpose: a block that holds an infinity becomes NaN. There it becomes
infinity times the first number of the table where it was infinite, and NaN elsewhere.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optuna_peppp.configurations.elements import DynamicMap
from optuna_peppp.lowprecision.rounding.kernels import SIGN, parameters
from optuna_peppp.lowprecision.rounding.scales import float32_scale, uniform

_FINE: Final = 7
"""Bits of a mantissa that tell cells apart: two thresholds are never as close."""

_TINY: Final = 23
"""Cells begin at 2^-23; what is smaller belongs to the first."""

_CELLS: Final = (_TINY << _FINE) + 1
"""Cells of either sign, the last of them for 1."""

_BASE: Final = (127 - _TINY) << _FINE


def map_parameters(element: DynamicMap, device: torch.device) -> tuple[Tensor, ...]:
    """What :func:`mapped` needs: the cells, and what makes a scale.

    Cells are float32, shape (2, 3, 2 * cells): to nearest, a threshold, the number below and the
    one above it; stochastically, a number, the one before and the one after it. Those of negative
    numbers are behind those of the others.
    """
    return torch.from_numpy(_cells(element)).to(device), parameters(device, element.max, 0)


@functools.cache
def _cells(element: DynamicMap) -> NDArray[np.float32]:
    numbers = element.numbers()
    lower, half = numbers[:-1], np.diff(numbers) * np.float32(0.5)
    thresholds = lower + half
    # The sum was rounded: the smallest number that fulfils (1) lies a few places beside it.
    for _ in range(4):
        below = np.nextafter(thresholds, np.float32(-np.inf))
        thresholds = np.where(below - lower >= half, below, thresholds)
    for _ in range(4):
        above = np.nextafter(thresholds, np.float32(np.inf))
        thresholds = np.where(thresholds - lower >= half, thresholds, above)
    # The smallest number of every cell: the first bits, and all others zero; or, if negative, one.
    bits = (_BASE + np.arange(_CELLS, dtype=np.int32)) << (23 - _FINE)
    positive, negative = bits.view(np.float32), -(bits | 0xFFFF).view(np.float32)
    positive[0] = 0
    smallest = np.concatenate([positive, negative])
    infinity = np.float32(np.inf)
    code = np.searchsorted(thresholds, smallest, side="right")
    nearest = [
        np.append(thresholds, infinity)[code],
        numbers[code],
        np.append(numbers, infinity)[code + 1],
    ]
    code = np.searchsorted(numbers, smallest, side="right")
    padded = np.concatenate([numbers[:1], numbers, [infinity, infinity]])
    stochastic = [padded[code + 1], padded[code], padded[code + 2]]
    return np.array([nearest, stochastic], dtype=np.float32)


def mapped(
    x: Tensor, keys: Tensor | None, cells: Tensor, scale: Tensor, *, dim: int = -1
) -> Tensor:
    """Rounds blocks to the numbers of a table, times a scale."""
    elements, own = mapped_parts(x, keys, cells, scale, dim=dim)
    return elements * own


def mapped_parts(
    x: Tensor, keys: Tensor | None, cells: Tensor, scale: Tensor, *, dim: int = -1
) -> tuple[Tensor, Tensor]:
    """The numbers of the table, and the scales."""
    own = float32_scale(x, scale, dim)
    own = torch.where(own < math.inf, own, math.nan)
    quotient = x / own
    bits = quotient.view(torch.int32)
    cell = (((bits & ~SIGN) >> (23 - _FINE)) - _BASE).clamp(0, _CELLS - 1) - (bits >> 31) * _CELLS
    rows = cells[0 if keys is None else 1].unbind()
    middle, below, above = (row.index_select(0, cell.flatten()).view(cell.shape) for row in rows)
    upper = quotient >= middle
    if keys is not None:
        below, above = torch.where(upper, middle, below), torch.where(upper, above, middle)
        upper = uniform(x, keys, dim) * (above - below) < quotient - below
    return torch.where(upper, above, below), own
