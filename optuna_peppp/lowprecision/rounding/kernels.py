"""The arithmetic of rounding to a format ``1-e-m``, in operations that fuse into one kernel.

The reference is the kernel of QPyTorch 0.3, ``qtorch.quant.float_quantize``. Finite numbers agree
with it bit for bit; on purpose, NaN stays NaN, infinity saturates, ``-0.0`` keeps its sign and
every floating dtype, layout and size is taken.

Notation:
    e, m: Exponent and mantissa bits of the format.
    emax, emin: Exponent of its largest binade, and of its smallest normal number.
    x: A float32 number, with the sign s.
    b: The bits of |x| as an integer, which grows with |x|.
    u: One unit in the last place that is kept, as an integer: 2^(23 - m).
    r: Random bits, uniform.

Equations:
    (1) bias = 2^(e-1) - 1; as no code is reserved, emax = 2^e - 1 - bias = 2^(e-1), and
        emin = 1 - bias = 2 - 2^(e-1).
    (2) max = 2^emax (2 - 2^-m), min_normal = 2^emin; below it, numbers lie 2^(emin-m) apart.
    (3) To nearest, ties away from zero: floor((b + u/2) / u) u. Adding carries from the mantissa
        into the exponent, and so into the next binade, just as rounding does.
    (4) Stochastically: floor((b + r mod u) / u) u, which is up with probability (b mod u) / u.
    (5) Below min_normal: R(x) = R(x + t) - t with t = s 2^emin, for x + t lies in
        [2^emin, 2^(emin+1)) s, where m mantissa bits are 2^(emin-m) apart, as (2) asks. The sum
        itself is float32's, as in the reference.
    (6) Overflow saturates: min(b, bits of max), in integers, as b grows with |x|.
    (7) r of the element at position i under the keys k0 and k1, modulo 2^32, with h ^ (h >> n)
        written as mix_n(h): mix_16(0x846CA68B mix_15(0x7FEB352D mix_16(phi (i + k0)) + k1)),
        phi = GOLDEN_RATIO. Steps and constants are those of ``lowbias32`` (Wellons,
        hash-prospector); without the multiplication by phi neighbours are correlated, and k1
        enters between the steps, so that the streams of two calls are not shifts of one another.
"""

from __future__ import annotations

import math
import struct
from typing import Final

import torch
from torch import Tensor

from optuna_peppp.configurations.formats import FloatFormat

GOLDEN_RATIO: Final = 0x9E3779B9
"""2^32 divided by it, the nearest odd number: its multiples spread evenly over 32 bits."""

SIGN: Final = -(2**31)
"""The sign bit of an int32."""


INFINITY: Final = 0x7F800000
"""The bits of infinity."""


def parameters(device: torch.device, *values: float) -> Tensor:
    """Numbers as one int32 tensor, so that one compiled graph serves every format.

    Integers are themselves, floats the bits of a float32; what is beyond its range is infinity.
    """
    bits = [value if isinstance(value, int) else _bits(value) for value in values]
    return torch.tensor(bits, dtype=torch.int32, device=device)


def _bits(value: float) -> int:
    try:
        (bits,) = struct.unpack("i", struct.pack("f", value))
    except OverflowError:
        return INFINITY
    return int(bits)


def format_parameters(fmt: FloatFormat, device: torch.device) -> Tensor:
    """What :func:`round_elements` needs of a format, int32, shape (3,).

    They are -u, ones at the bits of a float32 that are kept; the smallest normal number and the
    largest one, as in (2). With 8 exponent bits that is infinity: the range is wider than
    float32's.
    """
    return parameters(device, -1 << (23 - fmt.mantissa), fmt.min_normal, fmt.max)


def random_keys(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """What stochastic rounding draws from a generator: int32, shape (2,)."""
    return torch.randint(
        -(2**31), 2**31, (2,), dtype=torch.int32, device=device, generator=generator
    )


def round_elements(x: Tensor, keys: Tensor | None, fmt: Tensor) -> Tensor:
    """Rounds float32 numbers to nearest by (3), or with :func:`random_keys` by (4)."""
    kept, min_normal, largest = fmt.unbind()
    addend = (~kept + 1) >> 1 if keys is None else random_bits(x, keys).bitwise_and_(~kept)
    return add_and_cut(x, addend, kept, min_normal, largest)


def round_or_overflow(x: Tensor, keys: Tensor | None, fmt: Tensor) -> Tensor:
    """As :func:`round_elements`, but what is rounded beyond the largest number becomes infinity."""
    kept, min_normal, largest = fmt.unbind()
    addend = (~kept + 1) >> 1 if keys is None else random_bits(x, keys).bitwise_and_(~kept)
    rounded = add_and_cut(x, addend, kept, min_normal, torch.full_like(largest, INFINITY))
    return torch.where(rounded.abs() > largest.view(torch.float32), rounded * math.inf, rounded)


def add_and_cut(
    x: Tensor, addend: Tensor, kept: Tensor, min_normal: Tensor, largest: Tensor
) -> Tensor:
    """Adds in the last places and cuts them off: (3) and (4), by what is added.

    ``addend`` is int32, shaped like ``x`` or a scalar; the others are what
    :func:`format_parameters` makes of a format.
    """
    # In integers as far as possible: copysign and a clamp that lets NaN pass take longer.
    bits = x.view(torch.int32)
    sign = bits & SIGN
    # In place, as eagerly the memory that is asked for takes longer than the arithmetic.
    subnormal = (bits & ~SIGN).sub_(min_normal).bitwise_right_shift_(31)  # all ones where it is
    shift = subnormal.bitwise_and_(sign | min_normal).view(torch.float32)  # t of (5), 0 elsewhere
    magnitude = (x + shift).view(torch.int32).add_(addend).bitwise_and_(kept & ~SIGN)  # (3) or (4)
    rounded = magnitude.clamp_(max=largest).bitwise_or_(sign).view(torch.float32)  # (6), then (5)
    # Zeros of either sign and NaN are their own rounding.
    return torch.where(x.abs() > 0, rounded.sub_(shift), x)


def random_bits(x: Tensor, keys: Tensor, dim: int = -1) -> Tensor:
    """(7): 32 random bits for every element, int32, a hash of its position and two random keys.

    Positions are counted along ``dim`` first, and then in the order of the other dimensions.

    A counter-based generator needs no state, so it fuses into the rounding and gives the same
    bits eager and compiled, on CPU and CUDA. Right shifts of an int32 repeat its sign, which the
    masks take off.

    The first key is added before anything is multiplied: a multiple of a position by a constant
    is an index to the compiler, computed in C++ where it may not overflow. On CUDA it takes
    an index for int32 that is int64 where sizes are dynamic: there the sum is int64, and converted.
    """
    dtype = torch.int32 if x.device.type == "cpu" else torch.int64
    positions = torch.arange(x.numel(), dtype=dtype, device=x.device)
    if x.dim():
        positions = positions.view(x.movedim(dim, -1).shape).movedim(-1, dim)
    else:
        positions = positions.view(x.shape)
    bits = (positions + keys[0].to(dtype)).to(torch.int32).mul_(GOLDEN_RATIO - 2**32)
    bits.bitwise_xor_((bits >> 16).bitwise_and_(0xFFFF))
    bits.mul_(0x7FEB352D).add_(keys[1])
    bits.bitwise_xor_((bits >> 15).bitwise_and_(0x1FFFF))
    bits.mul_(0x846CA68B - 2**32)
    return bits.bitwise_xor_((bits >> 16).bitwise_and_(0xFFFF))
