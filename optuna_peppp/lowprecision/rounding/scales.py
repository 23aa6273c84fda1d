"""The arithmetic of blocks: a scale for each, and the elements that it leaves.

Notation:
    a: Largest magnitude of a block, A of the tensor; max: the element format's largest number.
    s: The scale; q: the elements; the result is q s.

Equations:
    (1) :class:`Scaled`: s = max(a, 1e-12) / max, in float32, or rounded up to bfloat16;
        q = round(x / s).
    (2) :class:`Microscaled`: s = 2^k, where k is the exponent of a / 2^emax (floor), or the one of
        a / max, rounded up (rceil), at least -127; q = round(x 2^-k).
    (3) :class:`NVFP4`: A / (448 * 6) = S; s = round((a / 6) / S) to FP8, at least 2^-6;
        q = round(x ((1 / S) / s)); the result is q (S s).
    (4) :class:`MinMax`: l = the smallest number, rounded down to bfloat16; s = (largest - l) /
        steps, rounded up to bfloat16; q = round((x - l) / s), the result is l + q s.

The order of operations, which decides the last bits, is that of torchao 0.18: (1) as
``quantize_fp8`` and ``scale_tensor`` of its optimizers, (2) as ``to_mx``, (3) as
``nvfp4_quantize`` and ``per_tensor_amax_to_scale``. (4) has no such reference. A block that holds
a NaN becomes NaN. Infinity makes NaN of its block in (1), of its tensor in (3); in (2) it makes the
largest scale, and stays infinity.

Differences from torchao, on purpose:

* (2), floor: where k would be below -126, torchao divides by 2^-126 and multiplies by 2^-127,
  which halves the numbers; k is -127 both times here, as OCP's specification says.
* (2), rceil: torchao's k goes through log2, which at large exponents cannot tell a number from the
  power of two just below it, and its blocks with k = -127 become zero. k is exact here, as of the
  instruction ``cvt.rp.satfinite.ue8m0x2`` that torchao uses on newer hardware.
* (3): S is at least 2^-121, so that (1 / S) / s is finite: a tensor of zeros stays zero, and
  numbers near float32's smallest ones do not become NaN, as torchao makes of them.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from optuna_peppp.configurations.blocks import NVFP4, Microscaled, MinMax
from optuna_peppp.configurations.elements import Integer
from optuna_peppp.configurations.formats import MachineFloat
from optuna_peppp.lowprecision.rounding.kernels import parameters, random_bits
from optuna_peppp.lowprecision.rounding.machine import (
    element_parameters,
    machine_parameters,
    round_machine,
    round_scaled,
    times_scale,
)

SMALLEST: Final = 1e-12
"""Largest magnitude of a block at least, for the scale of (1)."""

_INFINITY: Final = 0x7F800000
_ONE: Final = 0x3F800000
_SUBNORMAL: Final = 0x00400000
"""The bits of 2^-127."""

_LEAST: Final = 2.0**-121
"""The smallest S of (3): its inverse over the smallest s, 2^-6, is a float32."""

_LOW: Final = 0xFFFF
"""The bits that a bfloat16 lacks."""


def scaled_parameters(
    element: MachineFloat | Integer, scale: MachineFloat, device: torch.device
) -> tuple[Tensor, ...]:
    """What :func:`scaled` needs: the element, and what makes a scale.

    That is the element's largest number, and ones at the bits that a scale lacks.
    """
    low = _LOW if scale.name == "bfloat16" else 0
    return element_parameters(element, device), parameters(device, element.max, low)


def scaled(
    x: Tensor, keys: Tensor | None, element: Tensor, scale: Tensor, *, dim: int = -1
) -> Tensor:
    """Rounds blocks by (1)."""
    elements, own = scaled_parts(x, keys, element, scale, dim=dim)
    return times_scale(elements, element, own)


def scaled_parts(
    x: Tensor, keys: Tensor | None, element: Tensor, scale: Tensor, *, dim: int = -1
) -> tuple[Tensor, Tensor]:
    """Q and s of (1)."""
    own = float32_scale(x, scale, dim)
    return round_scaled(x / own, keys, element, dim), own


def float32_scale(x: Tensor, scale: Tensor, dim: int) -> Tensor:
    """The scale s of (1), of the element's largest number and the bits that a scale lacks."""
    largest, low = scale.unbind()
    amax = x.abs().amax(dim, keepdim=True)
    bits = (amax.clamp(min=SMALLEST) / largest.view(torch.float32)).view(torch.int32)
    up = (bits + low) & ~low
    up = torch.where(up == _INFINITY, bits & ~low, up)  # a finite scale stays finite
    return torch.where(amax == amax, up.view(torch.float32), amax)


def microscaled_parameters(fmt: Microscaled, device: torch.device) -> tuple[Tensor, ...]:
    """What :func:`microscaled` needs: the element; and what makes a scale, int32, shape (3,).

    That is 2^emax or max; what is added to the bits before the mantissa is cut off, nothing or all
    of it; and the scale of a block with an infinity.
    """
    power = math.frexp(fmt.element.max)[1] - 1
    if fmt.rule == "floor":
        scale = parameters(device, math.ldexp(1.0, power), 0, math.ldexp(1.0, 128 - power))
    else:
        scale = parameters(device, fmt.element.max, 0x7FFFFF, math.ldexp(1.0, 127))
    return element_parameters(fmt.element, device), scale


def microscaled(
    x: Tensor, keys: Tensor | None, element: Tensor, scale: Tensor, *, dim: int = -1
) -> Tensor:
    """Rounds blocks by (2)."""
    elements, own = microscaled_parts(x, keys, element, scale, dim=dim)
    return times_scale(elements, element, own)


def microscaled_parts(
    x: Tensor, keys: Tensor | None, element: Tensor, scale: Tensor, *, dim: int = -1
) -> tuple[Tensor, Tensor]:
    """Q and s of (2)."""
    divisor, fraction, highest = scale.unbind()
    amax = x.abs().amax(dim, keepdim=True)
    bits = (amax / divisor.view(torch.float32)).view(torch.int32)
    power = torch.minimum((bits + fraction) & _INFINITY, highest)
    # What is 2^-127 or less has no larger scale.
    power = torch.where(bits > _SUBNORMAL, power, 0)
    own = power.clamp(min=_SUBNORMAL).view(torch.float32)
    inverse = (2 * _ONE - power).clamp(min=_SUBNORMAL).view(torch.float32)
    inverse = torch.where(amax == amax, inverse, amax)  # NaN
    return round_scaled(x * inverse, keys, element, dim), own


def nvfp4_parameters(fmt: NVFP4, device: torch.device) -> tuple[Tensor, ...]:
    """What :func:`nvfp4` needs: the element, and the format of a scale."""
    return element_parameters(fmt.element, device), machine_parameters(fmt.scale, device)


def nvfp4(
    x: Tensor, keys: Tensor | None, element: Tensor, scale: Tensor, *, dim: int = -1
) -> Tensor:
    """Rounds blocks by (3)."""
    elements, own, whole = nvfp4_parts(x, keys, element, scale, dim=dim)
    return times_scale(elements, element, whole * own)


def nvfp4_parts(
    x: Tensor, keys: Tensor | None, element: Tensor, scale: Tensor, *, dim: int = -1
) -> tuple[Tensor, Tensor, Tensor]:
    """q, s and S of (3)."""
    amax = x.abs().amax(dim, keepdim=True)
    whole = amax.amax() / (NVFP4.scale.max * NVFP4.element.max)
    whole = whole.clamp(min=_LEAST)
    own = ((amax / NVFP4.element.max) / whole).clamp(NVFP4.scale.min_normal, NVFP4.scale.max)
    own = round_machine(own, None, scale)
    return round_scaled(x * ((1 / whole) / own), keys, element, dim), own, whole


def minmax_parameters(fmt: MinMax, device: torch.device) -> tuple[Tensor, ...]:
    """What :func:`minmax` needs: the steps from the smallest number to the largest."""
    return (parameters(device, float(fmt.steps)),)


def minmax(x: Tensor, keys: Tensor | None, fmt: Tensor, *, dim: int = -1) -> Tensor:
    """Rounds runs by (4)."""
    code, low, step = minmax_parts(x, keys, fmt, dim=dim)
    return low + code * step


def minmax_parts(
    x: Tensor, keys: Tensor | None, fmt: Tensor, *, dim: int = -1
) -> tuple[Tensor, Tensor, Tensor]:
    """q, l and s of (4)."""
    steps = fmt.view(torch.float32)
    amin = x.amin(dim, keepdim=True)
    bits = amin.view(torch.int32)
    bits = (bits + ((bits >> 31) & _LOW)) & ~_LOW
    low = torch.where(amin == amin, bits.view(torch.float32), amin)
    step = ((x.amax(dim, keepdim=True) - low) / steps).view(torch.int32)
    step = ((step + _LOW) & ~_LOW).view(torch.float32)
    quotient = (x - low) / torch.where(step == 0, 1.0, step)
    code = quotient.round() if keys is None else (quotient + uniform(x, keys, dim)).floor()
    return torch.minimum(code, steps), low, step


def uniform(x: Tensor, keys: Tensor, dim: int) -> Tensor:
    """A random number in [0, 1) for each of x, of 24 bits."""
    return (random_bits(x, keys, dim) & 0xFFFFFF).float() * 2.0**-24
