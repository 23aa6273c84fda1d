"""The arithmetic of rounding to a float format, in operations that fuse into one kernel.

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

import functools
import warnings
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.lowprecision.compatibility import current_dispatch_mode

GOLDEN_RATIO: Final = 0x9E3779B9
"""2^32 divided by it, the nearest odd number: its multiples spread evenly over 32 bits."""

_SIGN: Final = -(2**31)
"""The sign bit of an int32."""


class FormatTensors(NamedTuple):
    """A format as scalar tensors, so that one compiled graph serves every format.

    Attributes:
        kept: int32, ones at the bits of a float32 that are kept: -u.
        min_normal: float32, smallest normal number, as in (2).
        max: float32, largest number, as in (2); infinity with 8 exponent bits, whose range is
            wider than float32's.
    """

    kept: Tensor
    min_normal: Tensor
    max: Tensor

    @classmethod
    def of(cls, fmt: FloatFormat, device: torch.device) -> FormatTensors:
        """The tensors of a format on a device."""
        return cls(
            # -u, the bits above the last kept place.
            torch.tensor(-1 << (23 - fmt.mantissa), dtype=torch.int32, device=device),
            torch.tensor(fmt.min_normal, dtype=torch.float32, device=device),
            torch.tensor(fmt.max, dtype=torch.float64, device=device).float(),
        )


def random_keys(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """What stochastic rounding draws from a generator: int32, shape (2,)."""
    return torch.randint(
        -(2**31), 2**31, (2,), dtype=torch.int32, device=device, generator=generator
    )


def round_to(
    x: Tensor, fmt: FormatTensors, keys: Tensor | None = None, *, compiled: bool = False
) -> Tensor:
    """Rounds a floating-point tensor to nearest, or with :func:`random_keys` stochastically.

    Args:
        x: As for :func:`quantize`.
        fmt: The format, on the device of ``x``.
        keys: int32, shape (2,): the same keys round the same way.
        compiled: Whether to use the kernels that are compiled by themselves. Code that is being
            compiled as a whole says no, and the arithmetic becomes part of it.
    """
    x = x.resolve_neg()  # a lazy minus, as of the imaginary part of a conjugate, has no bits yet
    channels_last = (
        x.dim() == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()  # both, where channels or pixels are one
    )
    dense = x.permute(0, 2, 3, 1) if channels_last else x
    values = dense.float()
    # torch.compile makes graphs of their own for 0 and 1, and none under a dispatch mode.
    if compiled and values.numel() > 1 and current_dispatch_mode() is None:
        # Flat, so that one graph serves every shape; .data drops what it would be specialized
        # on: being a view, requiring gradients.
        rounded = _round_with(_compiled(), values.reshape(-1).contiguous().data, fmt, keys)
    else:
        rounded = _round_with(_EAGER, values, fmt, keys)
    rounded = rounded.view_as(dense)
    if rounded.dtype != x.dtype:
        rounded = rounded.to(x.dtype)
    # .data is no view: autograd forbids changing in place a view that a function returned.
    return (rounded.permute(0, 3, 1, 2) if channels_last else rounded).data


def _round_nearest(x: Tensor, kept: Tensor, min_normal: Tensor, largest: Tensor) -> Tensor:
    return _round(x, (~kept + 1) >> 1, kept, min_normal, largest)  # u/2 of (3)


def _round_stochastic(
    x: Tensor, keys: Tensor, kept: Tensor, min_normal: Tensor, largest: Tensor
) -> Tensor:
    return _round(x, _random_bits(x, keys) & ~kept, kept, min_normal, largest)  # r mod u of (4)


def _round(x: Tensor, addend: Tensor, kept: Tensor, min_normal: Tensor, largest: Tensor) -> Tensor:
    """Adds in the last places and cuts them off: (3) and (4), by what is added."""
    # In integers as far as possible: copysign and a clamp that lets NaN pass take longer.
    bits, unit = x.view(torch.int32), min_normal.view(torch.int32)
    sign = bits & _SIGN
    subnormal = ((bits & ~_SIGN) - unit) >> 31  # all ones where it is
    shift = (subnormal & (sign | unit)).view(torch.float32)  # t of (5), 0 elsewhere
    magnitude = ((x + shift).view(torch.int32) + addend) & (kept & ~_SIGN)  # (3) or (4)
    # (6), then (5).
    rounded = (torch.minimum(magnitude, largest.view(torch.int32)) | sign).view(torch.float32)
    # Zeros of either sign and NaN are their own rounding.
    return torch.where(x.abs() > 0, rounded - shift, x)


def _random_bits(x: Tensor, keys: Tensor) -> Tensor:
    """(7): 32 random bits for every element, int32, a hash of its position and two random keys.

    A counter-based generator needs no state, so it fuses into the rounding and gives the same
    bits eager and compiled, on CPU and CUDA. Right shifts of an int32 repeat its sign, which the
    masks take off.

    The first key is added before anything is multiplied: a multiple of a position by a constant
    is an index to the compiler, computed in C++ where it may not overflow.
    """
    positions = torch.arange(x.numel(), dtype=torch.int32, device=x.device).view(x.shape)
    bits = (positions + keys[0]) * (GOLDEN_RATIO - 2**32)
    bits = bits ^ ((bits >> 16) & 0xFFFF)
    bits = bits * 0x7FEB352D + keys[1]
    bits = bits ^ ((bits >> 15) & 0x1FFFF)
    bits = bits * (0x846CA68B - 2**32)
    return bits ^ ((bits >> 16) & 0xFFFF)


class _Kernels(NamedTuple):
    nearest: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    stochastic: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def _round_with(kernels: _Kernels, x: Tensor, fmt: FormatTensors, keys: Tensor | None) -> Tensor:
    return kernels.nearest(x, *fmt) if keys is None else kernels.stochastic(x, keys, *fmt)


_EAGER: Final = _Kernels(_round_nearest, _round_stochastic)


def can_compile() -> bool:
    """Whether ``torch.compile`` works here; warns, once, where it does not."""
    return _compiled() is not _EAGER


@functools.cache
def _compiled() -> _Kernels:
    """The compiled kernels, or the eager ones where this machine cannot compile."""
    cpu = torch.device("cpu")
    fmt = FormatTensors.of(FloatFormat(4, 3), cpu)
    # Large, for the compiler decides by the first size whether a kernel uses several threads.
    probe = torch.ones(2**20)
    try:
        kernels = _Kernels(
            torch.compile(_round_nearest, dynamic=True, fullgraph=True),
            torch.compile(_round_stochastic, dynamic=True, fullgraph=True),
        )
        kernels.nearest(probe, *fmt)
        kernels.stochastic(probe, random_keys(cpu, torch.Generator()), *fmt)
    except Exception as error:  # what a missing compiler raises differs between platforms
        warnings.warn(
            f"torch.compile does not work here ({type(error).__name__}); quantizing eagerly, "
            "which is slower. A C++ compiler such as g++ makes it work.",
            stacklevel=2,
        )
        return _EAGER
    return kernels
