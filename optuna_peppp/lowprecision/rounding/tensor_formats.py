"""Formats on a device: which arithmetic each has, on which view of a tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor

from optuna_peppp.configurations.blocks import NVFP4, BlockFormat, Microscaled, MinMax
from optuna_peppp.configurations.elements import DynamicMap
from optuna_peppp.configurations.formats import FloatFormat, Format, MachineFloat
from optuna_peppp.configurations.names import Backend, Rounding
from optuna_peppp.lowprecision.rounding import maps, scales
from optuna_peppp.lowprecision.rounding.compiling import (
    Kernel,
    can_compile,
    compiled,
    may_compile,
)
from optuna_peppp.lowprecision.rounding.kernels import (
    format_parameters,
    round_elements,
    round_or_overflow,
)
from optuna_peppp.lowprecision.rounding.layouts import Layout, layout_of
from optuna_peppp.lowprecision.rounding.machine import machine_parameters, round_machine


class TensorFormat(Protocol):
    """A format on a device: what a training needs of one, and all that a new one has to bring.

    What differs between two formats of one kernel has to be in tensors, so that the trainings of
    all of them are one compiled graph.

    Attributes:
        keyed: Whether stochastic rounding takes keys.
    """

    keyed: ClassVar[bool]

    def round(self, x: Tensor, keys: Tensor | None, axis: int | None = -1) -> Tensor:
        """A new tensor with every element of a floating-point one rounded.

        Args:
            x: As for :func:`~optuna_peppp.lowprecision.quantize`.
            keys: As :func:`~optuna_peppp.lowprecision.rounding.kernels.random_keys` draws them: the
                same keys round the same way; None rounds to nearest.
            axis: As for :func:`~optuna_peppp.lowprecision.quantize`.
        """


def on_device(
    fmt: Format,
    device: torch.device,
    rounding: Rounding,
    backend: Backend,
    *,
    overflows: bool = False,
) -> TensorFormat:
    """A format as a backend rounds to it.

    Args:
        fmt: The format.
        device: Where.
        rounding: How; only the reference needs to know it before it rounds.
        backend: Which.
        overflows: Whether what is too large for a format ``1-e-m`` becomes infinity.

    Raises:
        ValueError: The backend does not know the format.
    """
    if backend == "qpytorch":
        if isinstance(fmt, FloatFormat):
            return _QPyTorch(fmt, rounding)
        raise ValueError(
            f"backend 'qpytorch' knows formats such as 1-4-3 only; got {fmt}: use 'compiled'"
        )
    compiles = backend == "compiled"
    if isinstance(fmt, FloatFormat):
        kernel: Kernel = round_or_overflow if overflows else round_elements
        return _Elements(kernel, format_parameters(fmt, device), compiles)
    if isinstance(fmt, MachineFloat):
        return _Elements(round_machine, machine_parameters(fmt, device), compiles)
    fmt = cast(BlockFormat, fmt)
    of_blocks, tensors = _arithmetic(fmt, device)
    return _Blocks(of_blocks, tensors, layout_of(fmt.block), compiles)


def either(low: TensorFormat, high: TensorFormat, is_low: Tensor) -> TensorFormat:
    """One of two formats, by a flag that is read when something is rounded.

    Args:
        low: The format where the flag is set.
        high: The format where it is not.
        is_low: The flag, a boolean scalar; or one for every number of a vector, where the formats
            do not have blocks.
    """
    if isinstance(low, _Elements) and isinstance(high, _Elements) and low.kernel == high.kernel:
        one, other = low.tensors, high.tensors
        if is_low.dim():
            one, other = one[:, None], other[:, None]
        return replace(low, tensors=torch.where(is_low, one, other))
    if (
        isinstance(low, _Blocks)
        and isinstance(high, _Blocks)
        and (low.kernel, low.layout) == (high.kernel, high.layout)
        and [x.shape for x in low.tensors] == [x.shape for x in high.tensors]
    ):
        pairs = zip(low.tensors, high.tensors, strict=True)
        return replace(low, tensors=tuple(torch.where(is_low, one, other) for one, other in pairs))
    return _Either(low, high, is_low)


def _arithmetic(fmt: BlockFormat, device: torch.device) -> tuple[Kernel, tuple[Tensor, ...]]:
    """The kernel of a format with blocks, and the tensors that it takes."""
    if isinstance(fmt, Microscaled):
        return scales.microscaled, scales.microscaled_parameters(fmt, device)
    if isinstance(fmt, NVFP4):
        return scales.nvfp4, scales.nvfp4_parameters(fmt, device)
    if isinstance(fmt, MinMax):
        return scales.minmax, scales.minmax_parameters(fmt, device)
    if isinstance(fmt.element, DynamicMap):
        return maps.mapped, maps.map_parameters(fmt.element, device)
    return scales.scaled, scales.scaled_parameters(fmt.element, fmt.scale, device)


@dataclass(frozen=True, slots=True)
class _Elements:
    """A format that rounds every number by itself.

    ``compiles``: whether to use kernels that are compiled by themselves; in code that is being
    compiled as a whole the arithmetic becomes part of that in any case.
    """

    kernel: Kernel
    tensors: Tensor
    compiles: bool
    keyed: ClassVar[bool] = True

    def round(self, x: Tensor, keys: Tensor | None, axis: int | None = -1) -> Tensor:
        x = x.resolve_neg()  # a lazy minus, as of a conjugate's imaginary part, has no bits yet
        channels_last = (
            x.dim() == 4
            and x.is_contiguous(memory_format=torch.channels_last)
            and not x.is_contiguous()  # both, where channels or pixels are one
        )
        dense = x.permute(0, 2, 3, 1) if channels_last else x
        values = dense.float()
        # Flat, so that one graph serves every shape; .data drops what it would be specialized
        # on: being a view, requiring gradients.
        if self.compiles and may_compile(values.numel()) and can_compile():
            flat = values.reshape(-1).contiguous().data
            rounded = compiled(self.kernel)(flat, keys, self.tensors).view_as(dense)
            if not values.is_contiguous():
                # Dropout draws in the order of the memory, which is to stay what it was.
                rounded = torch.empty_like(values).copy_(rounded)
        else:
            rounded = self.kernel(values, keys, self.tensors)
        if rounded.dtype != x.dtype:
            rounded = rounded.to(x.dtype)
        # .data is no view: autograd forbids changing in place a view that a function returned.
        return (rounded.permute(0, 3, 1, 2) if channels_last else rounded).data


@dataclass(frozen=True, slots=True)
class _Blocks:
    """A format whose numbers share scales; ``compiles`` as above."""

    kernel: Kernel
    tensors: tuple[Tensor, ...]
    layout: Layout
    compiles: bool
    keyed: ClassVar[bool] = True

    def round(self, x: Tensor, keys: Tensor | None, axis: int | None = -1) -> Tensor:
        x = x.resolve_neg()
        if x.numel() == 0:
            return x.detach().clone()
        values = x.float()
        if axis is None or x.dim() == 0:
            values, axis = values.reshape(-1), 0
        axis %= values.dim()
        blocks, dim = self.layout.split(values, axis)
        last = blocks.movedim(dim, -1)
        rows = last.flatten(0, -2) if last.dim() > 2 else last
        if self.compiles and may_compile(*rows.shape) and can_compile():
            flat = rows.contiguous().data
            rounded = compiled(self.kernel)(flat, keys, *self.tensors)
            rounded = rounded.view(last.shape).movedim(-1, dim)
        else:
            rounded = self.kernel(blocks, keys, *self.tensors, dim=dim)
        rounded = self.layout.join(rounded, values, axis).reshape(x.shape)
        if rounded.dtype != x.dtype or rounded.stride() != x.stride():
            rounded = torch.empty_like(x).copy_(rounded)
        return rounded.data


@dataclass(frozen=True, slots=True)
class _Either:
    """One of two formats that no kernel shares: both are computed."""

    low: TensorFormat
    high: TensorFormat
    is_low: Tensor
    keyed: ClassVar[bool] = True

    def round(self, x: Tensor, keys: Tensor | None, axis: int | None = -1) -> Tensor:
        low, high = self.low.round(x, keys, axis), self.high.round(x, keys, axis)
        # Where the numbers lie in memory is that of x, which where() need not keep.
        return torch.empty_like(low).copy_(torch.where(self.is_low, low, high)).data


@dataclass(frozen=True, slots=True)
class _QPyTorch:
    fmt: FloatFormat
    rounding: Rounding
    keyed: ClassVar[bool] = False

    def round(self, x: Tensor, keys: Tensor | None, axis: int | None = -1) -> Tensor:
        try:
            # Importing it compiles C++, which takes most of a minute the first time.
            from qtorch.quant import float_quantize
        except ImportError as error:
            raise ImportError(
                "backend 'qpytorch' needs QPyTorch: pip install 'optuna_peppp[qpytorch]'"
            ) from error
        exponent, mantissa, factor = self.fmt.exponent, self.fmt.mantissa, 2.0**self.fmt.shift
        with torch.no_grad():
            values = x.float().contiguous() * factor
            rounded: Tensor = float_quantize(values, exponent, mantissa, self.rounding)
            return (rounded / factor).to(x.dtype)
