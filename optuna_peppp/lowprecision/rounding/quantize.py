"""Rounding of tensors to any format, by one of several backends."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.formats import Format
from optuna_peppp.configurations.names import BACKENDS, ROUNDINGS, Backend, Rounding
from optuna_peppp.configurations.notation import parse_format
from optuna_peppp.lowprecision.rounding.compiling import can_compile
from optuna_peppp.lowprecision.rounding.kernels import random_keys
from optuna_peppp.lowprecision.rounding.tensor_formats import TensorFormat, on_device

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

LARGE: Final = 2**17
"""Numbers of a tensor from which on a compiled kernel is worth what surrounds it."""


def quantize(
    x: Tensor,
    fmt: Format | str,
    rounding: Rounding = "nearest",
    generator: torch.Generator | None = None,
    axis: int | None = -1,
    *,
    backend: Backend | None = None,
) -> Tensor:
    """Rounds every element of a tensor to a format; gradients do not flow through.

    Args:
        x: Floating-point tensor of any shape, layout and device. The arithmetic is float32's:
            other dtypes are converted to it and the result back.
        fmt: The format to round to, or its text, as
            :func:`~optuna_peppp.configurations.notation.parse_format` reads it.
        rounding: ``"nearest"``, ties away from zero for ``1-e-m`` and to even for others, or
            ``"stochastic"``: up with a probability equal to the distance from the number below,
            in units in the last place.
        generator: Source of the randomness of stochastic rounding, on the device of ``x``;
            the global one by default. All backends but the last give the same numbers.
        axis: The axis along which blocks run, the channels of an image's activation (1) or the
            input channels of a weight (1), say; None for blocks that run through the whole
            tensor, as those of optimizer states do. Formats without blocks do not need it.
        backend: ``"eager"``; ``"compiled"``, the same through ``torch.compile``, one graph for
            all formats of a kind and all sizes (eager, with one warning, where nothing can be
            compiled); by default compiled where tensors are large and a compiler is there, which
            takes some seconds the first time; ``"qpytorch"``, the reference kernel for ``1-e-m``
            (needs the extra ``qpytorch``; ignores ``generator`` and does not share the differences
            from it).

    Returns:
        A new tensor of the same shape, dtype and device.

    Raises:
        TypeError: ``x`` is not a floating-point tensor.
        ValueError: ``fmt`` is no format, ``axis`` no axis of ``x``, or ``rounding`` or ``backend``
            not one of the above.

    >>> quantize(torch.tensor([0.3, 1.26, 1000.0]), "1-4-3").tolist()
    [0.3125, 1.25, 480.0]
    >>> quantize(torch.tensor([0.3, 1.26, 1000.0]), "mxfp8-e4m3").tolist()
    [0.3125, 1.25, 896.0]
    """
    if not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor; got dtype {x.dtype}")
    if isinstance(fmt, str):
        fmt = parse_format(fmt)
    check_choice("rounding", rounding, ROUNDINGS)
    if axis is not None and not -max(x.dim(), 1) <= axis < max(x.dim(), 1):
        raise ValueError(
            f"axis must be one of the {x.dim()} axes of x, or None for all; got {axis!r}"
        )
    if backend is not None:
        check_choice("backend", backend, BACKENDS)
    else:
        large = x.numel() >= LARGE and not torch.compiler.is_compiling()
        backend = "compiled" if large and can_compile(quiet=True) else "eager"
    with torch.no_grad():
        target = on_device(fmt, x.device, rounding, backend)
        keyed = rounding == "stochastic" and target.keyed
        return target.round(x, random_keys(x.device, generator) if keyed else None, axis)
