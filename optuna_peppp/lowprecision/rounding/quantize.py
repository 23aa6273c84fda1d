"""Rounding of tensors to a low-precision floating-point format, by one of several backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, Self

import torch
from torch import Tensor

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.names import BACKENDS, ROUNDINGS, Backend, Rounding
from optuna_peppp.lowprecision.rounding.kernels import (
    FormatTensors,
    can_compile,
    random_keys,
    round_to,
)

__all__ = [
    "BACKENDS",
    "ROUNDINGS",
    "Backend",
    "Rounding",
    "TensorFormat",
    "can_compile",
    "on_device",
    "quantize",
]


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
        target = on_device(fmt, x.device, rounding, backend)
        keyed = rounding == "stochastic" and target.keyed
        return target.round(x, random_keys(x.device, generator) if keyed else None)


class TensorFormat(Protocol):
    """A format on a device: what a training needs of one, and all that a new one has to bring.

    What differs between two formats of one class has to be in tensors, so that the trainings of
    all of them are one compiled graph.

    Attributes:
        keyed: Whether stochastic rounding takes keys.
    """

    keyed: ClassVar[bool]

    def round(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """A new tensor with every element of a floating-point one rounded.

        Args:
            x: As for :func:`quantize`.
            keys: As for :func:`~optuna_peppp.lowprecision.rounding.kernels.round_to`; None rounds
                to nearest.
        """


def on_device(
    fmt: FloatFormat, device: torch.device, rounding: Rounding, backend: Backend
) -> TensorFormat:
    """A format as a backend rounds to it."""
    return _BACKENDS[backend].of(fmt, device, rounding)


@dataclass(frozen=True, slots=True)
class _Eager:
    tensors: FormatTensors
    keyed: ClassVar[bool] = True

    @classmethod
    def of(cls, fmt: FloatFormat, device: torch.device, rounding: Rounding) -> Self:
        return cls(FormatTensors.of(fmt, device))

    def round(self, x: Tensor, keys: Tensor | None) -> Tensor:
        return round_to(x, self.tensors, keys)


@dataclass(frozen=True, slots=True)
class _Compiled(_Eager):
    def round(self, x: Tensor, keys: Tensor | None) -> Tensor:
        return round_to(x, self.tensors, keys, compiled=not torch.compiler.is_compiling())


@dataclass(frozen=True, slots=True)
class _QPyTorch:
    fmt: FloatFormat
    rounding: Rounding
    keyed: ClassVar[bool] = False

    @classmethod
    def of(cls, fmt: FloatFormat, device: torch.device, rounding: Rounding) -> Self:
        return cls(fmt, rounding)

    def round(self, x: Tensor, keys: Tensor | None) -> Tensor:
        try:
            # Importing it compiles C++, which takes most of a minute the first time.
            from qtorch.quant import float_quantize
        except ImportError as error:
            raise ImportError(
                "backend 'qpytorch' needs QPyTorch: pip install 'optuna_peppp[qpytorch]'"
            ) from error
        exponent, mantissa = self.fmt.exponent, self.fmt.mantissa
        with torch.no_grad():
            values = x.float().contiguous()
            rounded: Tensor = float_quantize(values, exponent, mantissa, self.rounding)
            return rounded.to(x.dtype)


_BACKENDS: Final[dict[Backend, type[_Eager | _QPyTorch]]] = {
    "compiled": _Compiled,
    "eager": _Eager,
    "qpytorch": _QPyTorch,
}
