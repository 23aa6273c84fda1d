"""Compiling what rounds, once a kernel, for all formats and sizes.

A kernel is a function of float32 numbers, of random keys or None, and of the small tensors that
make a format of it. Formats that have a kernel in common share its graph.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from optuna_peppp.lowprecision.compatibility import current_dispatch_mode

Kernel = Callable[..., Tensor]

_PROBE: Final = 2**20
"""Numbers of the tensor that a kernel is compiled with: the compiler decides by the first size
whether a kernel uses several threads."""

AS_EAGERLY: Final[dict[str, Any]] = {
    "eager_numerics.division_rounding": True,
    "emulate_precision_casts": True,
}
"""Options of Inductor that have CUDA divide as eagerly, and round a product before it is added."""

_OPTIONS: Final[dict[str, Any]] = AS_EAGERLY | {"realize_opcount_threshold": 15}
"""A scale is computed once a block, not again for every vector of its numbers: what takes more
operations than this is kept."""


def can_compile(*, quiet: bool = False) -> bool:
    """Whether ``torch.compile`` works here; warns, once, where it does not, unless ``quiet``."""
    error = _failure()
    if error is not None and not quiet:
        _warn_once(type(error).__name__)
    return error is None


def may_compile(*sizes: int) -> bool:
    """Whether a compiled kernel takes a tensor of these sizes.

    torch.compile makes graphs of their own for sizes of 0 and 1, and none under a dispatch mode;
    what is being compiled already, becomes part of that.
    """
    return min(sizes) > 1 and not (
        torch.compiler.is_compiling() or current_dispatch_mode() is not None
    )


@functools.cache
def compiled(kernel: Kernel) -> Kernel:
    """The kernel, compiled when it is first called with keys or without, in so many dimensions."""
    function = torch.compile(kernel, dynamic=True, fullgraph=True, options=_OPTIONS)
    probed: set[tuple[int, bool, torch.device]] = set()

    def call(x: Tensor, keys: Tensor | None, *tensors: Tensor) -> Tensor:
        kind = x.dim(), keys is None, x.device
        # What differs from number to number fits no probe.
        fits = not any(t.dim() > 1 and t.shape[-1] == x.shape[-1] for t in tensors)
        if kind not in probed and fits:
            columns = x.shape[1:]
            probe = torch.ones(_PROBE // columns.numel() + 2, *columns, device=x.device)
            function(probe, keys, *tensors)
            probed.add(kind)
        result: Tensor = function(x, keys, *tensors)
        return result

    return call


@functools.cache
def _failure() -> Exception | None:
    """What keeps ``torch.compile`` from working on this machine."""
    try:
        torch.compile(_double, dynamic=True, fullgraph=True)(torch.ones(8))
    except Exception as error:  # what a missing compiler raises differs between platforms
        return error
    return None


def _double(x: Tensor) -> Tensor:
    return x + x


@functools.cache
def _warn_once(error: str) -> None:
    warnings.warn(
        f"torch.compile does not work here ({error}); quantizing eagerly, which is slower. "
        "A C++ compiler such as g++ makes it work.",
        stacklevel=3,
    )
