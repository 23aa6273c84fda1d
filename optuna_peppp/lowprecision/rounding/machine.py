"""The arithmetic of rounding to the formats of machines, with ties to even and reserved codes.

Notation, beside that of :mod:`~optuna_peppp.lowprecision.rounding.kernels`:
    u: One unit in the last place that is kept, here of a number: 2^(E - m).
    E: Exponent of the binade of x, or emin below it.
    over: What becomes of numbers that round beyond max: infinity, NaN, or max.

Equations:
    (1) Adding and subtracting t = 2^23 u rounds |x| to a multiple of u, ties to even, as the sum
        lies in [t, 2 t), where float32 itself has multiples of u. It is exact for subnormal
        numbers too: they are rounded once.
    (2) So that t does not overflow, and is the same for all numbers, x is taken to the binade
        [2^emin, 2^(emin+1)) first, in integers: exponents count in steps of 2^23 there.
    (3) In blocks, whose numbers are not large, t has the exponent max(E, emin) + 23 - m instead.
    (4) Stochastically, as formats ``1-e-m``.

Signs are kept, of zero too. NaN stays NaN; infinity is beyond max.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from optuna_peppp.configurations.elements import Integer
from optuna_peppp.configurations.formats import MachineFloat
from optuna_peppp.lowprecision.rounding.kernels import SIGN, add_and_cut, parameters, random_bits

_INFINITY: Final = 0x7F800000
"""The bits of infinity, which are those of the exponent."""

_PLACES: Final = 23
"""Mantissa bits of float32."""


def machine_parameters(fmt: MachineFloat, device: torch.device) -> Tensor:
    """What :func:`round_machine` needs of a format, int32, shape (5,).

    They are ones at the bits of a float32 that are kept; the smallest normal number; t of (1) for
    its binade, 0 where all bits are kept; the largest number; and over.
    """
    dropped = _PLACES - fmt.mantissa
    ties = math.ldexp(fmt.min_normal, dropped) if dropped else 0.0
    special = fmt.max if fmt.special is None else fmt.special
    over = special if fmt.overflow == "special" else fmt.max
    return parameters(device, -1 << dropped, fmt.min_normal, ties, fmt.max, over)


def round_machine(x: Tensor, keys: Tensor | None, fmt: Tensor) -> Tensor:
    """Rounds float32 numbers to nearest by (1) and (2), or with random keys by (4)."""
    kept, min_normal, ties, largest, over = fmt.unbind()
    bits = x.view(torch.int32)
    sign = bits & SIGN
    if keys is None:
        magnitude = bits & ~SIGN
        binades = (magnitude & _INFINITY).clamp_(min=min_normal).sub_(min_normal)  # (2)
        near, step = magnitude.sub_(binades).view(torch.float32), ties.view(torch.float32)
        rounded = near.add_(step).sub_(step).view(torch.int32).add_(binades)  # (1)
    else:
        addend = random_bits(x, keys).bitwise_and_(~kept)
        unbounded = torch.full_like(largest, _INFINITY)
        rounded = add_and_cut(x, addend, kept, min_normal, unbounded).view(torch.int32) & ~SIGN
    rounded = torch.where(rounded > largest, over, rounded).bitwise_or_(sign)
    return torch.where(x == x, rounded.view(torch.float32), x)


def element_parameters(element: MachineFloat | Integer, device: torch.device) -> Tensor:
    """What :func:`round_scaled` needs of an element format, int32, shape (5,).

    They are ones at the bits of a float32 that are kept; the smallest normal number, of integers
    the power of two above all; 23 - m where a float32 has its exponent; the largest number; and
    -0.0 where there is such a number, else 0.0.
    """
    if isinstance(element, Integer):
        # Integers are the subnormal numbers of a float, all equally far apart.
        mantissa, min_normal, zero = element.bits - 1, math.ldexp(1.0, element.bits - 1), 0.0
    else:
        mantissa, min_normal, zero = element.mantissa, element.min_normal, -0.0
    dropped = _PLACES - mantissa
    return parameters(device, -1 << dropped, min_normal, dropped << _PLACES, element.max, zero)


def round_scaled(x: Tensor, keys: Tensor | None, element: Tensor, dim: int) -> Tensor:
    """Rounds numbers that were divided by a scale.

    To nearest by (1) and (3), or with random keys by (4); what is too large saturates.
    """
    kept, min_normal, places, largest, _ = element.unbind()
    if keys is None:
        bits = x.view(torch.int32)
        ties = (bits & _INFINITY).clamp_(min=min_normal).add_(places).view(torch.float32)  # (3)
        rounded = x.abs().add_(ties).sub_(ties).clamp_(max=largest.view(torch.float32))  # (1)
        return rounded.view(torch.int32).bitwise_or_(bits & SIGN).view(torch.float32)
    addend = random_bits(x, keys, dim).bitwise_and_(~kept)
    unbounded = torch.full_like(largest, _INFINITY)
    bound = largest.view(torch.float32)
    return add_and_cut(x, addend, kept, min_normal, unbounded).clamp_(-bound, bound)


def times_scale(x: Tensor, element: Tensor, scale: Tensor) -> Tensor:
    """Rounded numbers, changed in place, times a scale; with -0.0 where the element has it."""
    *_, zero = element.unbind()
    return x.mul_(scale).add_(zero.view(torch.float32))
