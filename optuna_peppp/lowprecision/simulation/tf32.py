"""Where TF32, in which tensor cores multiply, changes no product.

TF32 reads operands with 8 exponent and 10 mantissa bits and adds products in float32. It is exact
where every operand was rounded to a format within: of the paper's, weights, activations and their
gradients are in Format A, but the network's input and the gradient of its logits are in Format B,
whose widest have 11. A scale that is a power of two adds no bits, any other does. Only convolutions
are asked about, since matrix products are too few to matter in the networks here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from optuna_peppp.configurations.blocks import Microscaled
from optuna_peppp.configurations.formats import FloatFormat, Format, MachineFloat
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import PASSES
from optuna_peppp.lowprecision.compatibility import TorchDispatchMode
from optuna_peppp.lowprecision.rounding.quantize import quantize
from optuna_peppp.lowprecision.rounding.scheme import RoundingScheme
from optuna_peppp.lowprecision.simulation.modules import LowPrecisionModule

_TF32: Final = FloatFormat(8, 10)

_OPERANDS: Final = {
    torch.ops.aten.convolution.default: 2,
    torch.ops.aten.convolution_backward.default: 3,
}
"""How many of the first arguments are multiplied."""


def convolutions_fit_tf32(
    network: nn.Module,
    precision: Precision | Recipe | None,
    scheme: RoundingScheme,
    images: Tensor,
) -> bool:
    """Whether TF32 is exact for every convolution of a training, forward and backward.

    One pass is made on a copy, with all that is rounded rounded to TF32 itself: an operand that
    does not fit was not rounded, such as a sum that a ``forward`` computes between two modules.

    Args:
        network: The module that is trained; left as it is.
        precision: Its formats or its recipe; None is float32, which does not fit.
        scheme: What is rounded to which of two formats.
        images: A few inputs of the network, at least two for batch norm.
    """
    recipe = scheme.recipe(precision)
    everywhere = [recipe, *(exemption.formats for exemption in recipe.exemptions)]
    read = [fmt for formats in everywhere for role, fmt in formats.items() if role in PASSES]
    read += [] if recipe.rule is None else [recipe.rule.high]
    if not read or not all(map(_fits, read)):
        return False
    copied = LowPrecisionModule(
        copy.deepcopy(network).train(), Recipe(dict.fromkeys(recipe, _TF32))
    )
    with torch.enable_grad(), torch.random.fork_rng(), _Operands() as operands:
        logits = copied(images)
        torch.autograd.backward(logits, torch.randn_like(logits))
    return bool(operands.fit)


def _fits(fmt: Format) -> bool:
    """Whether TF32 holds all numbers of a format."""
    if isinstance(fmt, Microscaled):
        fmt = fmt.element
    if not isinstance(fmt, FloatFormat | MachineFloat):
        return False
    return fmt.exponent <= _TF32.exponent and fmt.mantissa <= _TF32.mantissa


@contextmanager
def convolutions_in_tf32(allowed: bool) -> Iterator[None]:
    """Lets cuDNN convolve in TF32 within this block, or forbids it; torch's default allows it."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class _Operands(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at the operands of every convolution."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fit = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for operand in args[: _OPERANDS.get(func, 0)]:
            self.fit = self.fit and torch.equal(quantize(operand, _TF32), operand)
        return func(*args, **(kwargs or {}))
