"""What is rounded to which format, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from optuna_peppp.formats import FloatFormat, Precision
from optuna_peppp.lowprecision.quantize import Backend, Rounding, quantize

Choice = Literal["A", "B"] | None
"""Format A, Format B, or None for float32."""

Role = Literal[
    "weights",
    "activations",
    "activation_gradients",
    "weight_gradients",
    "momentum",
    "accumulators",
    "input",
    "logits",
]
"""What a tensor is to a training: a field of :class:`RoundingScheme`."""


@dataclass(frozen=True, slots=True)
class RoundingScheme:
    """Where and how a training rounds. Batch-norm statistics and the loss stay float32.

    The defaults are the paper's (Section 3.1), rounded to nearest. The scheme of its authors'
    released code is ``RoundingScheme(weight_gradients="A", rounding="stochastic")``.

    Attributes:
        weights: Weights, as the forward and backward passes see them.
        activations: The output of every module but the last.
        activation_gradients: The gradients of those outputs.
        weight_gradients: Gradients of the weights, as the optimizer sees them.
        momentum: State of the optimizer that is shaped like the weights.
        accumulators: Weights, as the optimizer updates them.
        input: Input of the network.
        logits: Output of the network and its gradient.
        rounding: ``"nearest"`` or ``"stochastic"``.
        loss_scale: Static factor on the loss, taken off the weight gradients again.
    """

    weights: Choice = "A"
    activations: Choice = "A"
    activation_gradients: Choice = "A"
    weight_gradients: Choice = "B"
    momentum: Choice = "B"
    accumulators: Choice = "B"
    input: Choice = "B"
    logits: Choice = "B"
    rounding: Rounding = "nearest"
    loss_scale: float = 1000.0

    def __post_init__(self) -> None:
        if not self.loss_scale > 0:
            raise ValueError(f"loss_scale must be positive; got {self.loss_scale!r}")


DEFAULT_SCHEME: Final = RoundingScheme()


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Rounds the tensors of one training.

    Attributes:
        precision: The two formats, or None to round nothing.
        scheme: What is rounded to which of them.
        generator: Source of randomness for stochastic rounding.
        backend: As in :func:`~optuna_peppp.lowprecision.quantize`.
    """

    precision: Precision | None
    scheme: RoundingScheme = DEFAULT_SCHEME
    generator: torch.Generator | None = None
    backend: Backend = "eager"

    def format(self, role: Role) -> FloatFormat | None:
        """The format of a role, None for float32."""
        choice: Choice = getattr(self.scheme, role)
        if self.precision is None or choice is None:
            return None
        return self.precision.format_a if choice == "A" else self.precision.format_b

    def __call__(self, x: Tensor, role: Role) -> Tensor:
        """The tensor rounded as its role asks; itself where that is float32."""
        fmt = self.format(role)
        if fmt is None:
            return x
        return quantize(x, fmt, self.scheme.rounding, self.generator, backend=self.backend)
