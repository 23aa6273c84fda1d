"""Rounding of tensors to a low-precision floating-point format.

The reference is the kernel of QPyTorch 0.3, ``qtorch.quant.float_quantize``. Finite numbers agree
with it bit for bit; on purpose, NaN stays NaN, infinity saturates, ``-0.0`` keeps its sign and
every floating dtype, layout and size is taken. Notation: a format has e exponent and m mantissa
bits, largest exponent emax = 2^(e-1), smallest normal exponent emin = 2 - 2^(e-1).

A float32 number is rounded by adding to its bit pattern (half a unit in the last kept place, or
random low bits) and clearing the low 23 - m bits. A number below 2^emin is first shifted into
[2^emin, 2^(emin+1)), where a unit in the last place is the spacing of the subnormal numbers.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.formats import FloatFormat

Rounding = Literal["nearest", "stochastic"]
Backend = Literal["compiled", "eager", "qpytorch"]

ROUNDINGS: Final = get_args(Rounding)
BACKENDS: Final = get_args(Backend)

GOLDEN_RATIO: Final = 0x9E3779B9
"""2^32 divided by it, the nearest odd number: its multiples spread evenly over 32 bits."""

_SIGN: Final = -(2**31)
"""The sign bit of an int32."""


class FormatTensors(NamedTuple):
    """A format as scalar tensors, so that one compiled graph serves every format.

    Attributes:
        kept: int32, ones at the bits of a float32 that are kept.
        min_normal: float32, smallest normal number.
        max: float32, largest number; infinity with 8 exponent bits, whose range is wider than
            float32's.
    """

    kept: Tensor
    min_normal: Tensor
    max: Tensor

    @classmethod
    def of(cls, fmt: FloatFormat, device: torch.device) -> FormatTensors:
        """The tensors of a format on a device."""
        return cls(
            torch.tensor(-1 << (23 - fmt.mantissa), dtype=torch.int32, device=device),
            torch.tensor(fmt.min_normal, dtype=torch.float32, device=device),
            torch.tensor(fmt.max, dtype=torch.float64, device=device).float(),
        )


def quantize(
    x: Tensor,
    fmt: FloatFormat,
    rounding: Rounding = "nearest",
    generator: torch.Generator | None = None,
    *,
    backend: Backend = "eager",
) -> Tensor:
    """Rounds every element of a tensor to a format; gradients do not flow through.

    Args:
        x: Floating-point tensor of any shape, layout and device. The arithmetic is float32's:
            other dtypes are converted to it and the result back.
        fmt: The format to round to.
        rounding: ``"nearest"``, ties away from zero, or ``"stochastic"``: up with a probability
            equal to the distance from the number below, in units in the last place.
        generator: Source of the randomness of stochastic rounding, on the device of ``x``;
            the global one by default. Eager and compiled give the same numbers.
        backend: ``"eager"``; ``"compiled"``, the same through one ``torch.compile`` graph for
            all formats and sizes (eager, with one warning, where nothing can be compiled);
            ``"qpytorch"``, the reference kernel (needs the extra ``qpytorch``; ignores
            ``generator`` and does not share the differences named above).

    Returns:
        A new tensor of the same shape, dtype and device.

    Raises:
        TypeError: ``x`` is not a floating-point tensor.
        ValueError: ``rounding`` or ``backend`` is not one of the above.

    >>> quantize(torch.tensor([0.3, 1.26, 1000.0]), FloatFormat(4, 3)).tolist()
    [0.3125, 1.25, 480.0]
    """
    if not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor; got dtype {x.dtype}")
    check_choice("rounding", rounding, ROUNDINGS)
    check_choice("backend", backend, BACKENDS)
    with torch.no_grad():
        if backend == "qpytorch":
            return _qpytorch(x, fmt, rounding)
        keys = random_keys(x.device, generator) if rounding == "stochastic" else None
        return round_to(x, FormatTensors.of(fmt, x.device), keys, compiled=backend == "compiled")


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
    if compiled and values.numel() > 1 and _get_current_dispatch_mode() is None:
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
    """Rounds ties away from zero: half a unit in the last place is added, then cut off."""
    return _round(x, (~kept + 1) >> 1, kept, min_normal, largest)


def _round_stochastic(
    x: Tensor, keys: Tensor, kept: Tensor, min_normal: Tensor, largest: Tensor
) -> Tensor:
    """Rounds up or down at random: uniform random low bits are added, then cut off."""
    return _round(x, _random_bits(x, keys) & ~kept, kept, min_normal, largest)


def _round(x: Tensor, addend: Tensor, kept: Tensor, min_normal: Tensor, largest: Tensor) -> Tensor:
    # In integers as far as possible: copysign and a clamp that lets NaN pass take longer.
    bits, unit = x.view(torch.int32), min_normal.view(torch.int32)
    sign = bits & _SIGN
    subnormal = ((bits & ~_SIGN) - unit) >> 31  # all ones where it is
    shift = (subnormal & (sign | unit)).view(torch.float32)
    magnitude = ((x + shift).view(torch.int32) + addend) & (kept & ~_SIGN)
    rounded = (torch.minimum(magnitude, largest.view(torch.int32)) | sign).view(torch.float32)
    # Zeros of either sign and NaN are their own rounding.
    return torch.where(x.abs() > 0, rounded - shift, x)


def _random_bits(x: Tensor, keys: Tensor) -> Tensor:
    """32 random bits for every element, int32: a hash of its position and two random keys.

    A counter-based generator needs no state, so it fuses into the rounding and gives the same
    bits eager and compiled, on CPU and CUDA. The mixing steps and constants are those of
    ``lowbias32`` (Wellons, hash-prospector) after a multiplication by the golden ratio, without
    which neighbours are correlated; the second key enters between them, so that the streams of
    two calls are not shifts of one another.

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


def _qpytorch(x: Tensor, fmt: FloatFormat, rounding: Rounding) -> Tensor:
    try:
        # Importing it compiles C++, which takes most of a minute the first time.
        from qtorch.quant import float_quantize
    except ImportError as error:
        raise ImportError(
            "backend 'qpytorch' needs QPyTorch: pip install 'optuna_peppp[qpytorch]'"
        ) from error
    rounded: Tensor = float_quantize(x.float().contiguous(), fmt.exponent, fmt.mantissa, rounding)
    return rounded.to(x.dtype)
