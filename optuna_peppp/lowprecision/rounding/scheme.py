"""What is rounded to which format, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision.rounding.quantize import (
    BACKENDS,
    GOLDEN_RATIO,
    ROUNDINGS,
    Backend,
    FormatTensors,
    Rounding,
    quantize,
    random_keys,
    round_to,
)

Choice = Literal["A", "B"] | None
"""Format A, Format B, or None for float32."""

CHOICES: Final[tuple[Choice, ...]] = ("A", "B", None)

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

ROLES: Final = get_args(Role)


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

    Raises:
        ValueError: A field is none of its choices, or the loss scale is not a positive number.
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
        for role in ROLES:
            check_choice(role, getattr(self, role), CHOICES)
        check_choice("rounding", self.rounding, ROUNDINGS)
        if not 0 < self.loss_scale < math.inf:
            raise ValueError(f"loss_scale must be positive and finite; got {self.loss_scale!r}")


DEFAULT_SCHEME: Final = RoundingScheme()


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Rounds the tensors of one training.

    Attributes:
        precision: The two formats, or None to round nothing.
        scheme: What is rounded to which of them.
        generator: Source of randomness for stochastic rounding.
        backend: As in :func:`~optuna_peppp.lowprecision.rounding.quantize`.

    Raises:
        ValueError: ``backend`` is unknown.
    """

    precision: Precision | None
    scheme: RoundingScheme = DEFAULT_SCHEME
    generator: torch.Generator | None = None
    backend: Backend = "eager"

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, BACKENDS)

    def format(self, role: Role) -> FloatFormat | None:
        """The format of a role, None for float32."""
        choice: Choice = getattr(self.scheme, role)
        if self.precision is None or choice is None:
            return None
        return self.precision.format_a if choice == "A" else self.precision.format_b

    def rounder(self, device: torch.device) -> Rounder:
        """What rounds the tensors of one pass on a device, with randomness of its own."""
        formats = None
        if self.precision is not None:
            formats = (
                FormatTensors.of(self.precision.format_a, device),
                FormatTensors.of(self.precision.format_b, device),
            )
        stochastic = self.scheme.rounding == "stochastic" and formats is not None
        keys = random_keys(device, self.generator) if stochastic else None
        return Rounder(self, formats, keys)


@dataclass(frozen=True, slots=True)
class Rounder:
    """Rounds the tensors of one forward and backward pass, or of one update.

    What changes from one configuration or pass to the next is in tensors, so that the passes of
    all configurations are one compiled graph.

    Attributes:
        quantizer: What it rounds for.
        formats: Formats A and B, None to round nothing.
        keys: Randomness of the pass, None to round to nearest.
    """

    quantizer: Quantizer
    formats: tuple[FormatTensors, FormatTensors] | None
    keys: Tensor | None

    def rounds(self, role: Role) -> bool:
        """Whether tensors of this role are rounded."""
        return self.formats is not None and getattr(self.quantizer.scheme, role) is not None

    def renew(self) -> None:
        """Draws the randomness of another pass, into the same tensor."""
        if self.keys is not None:
            self.keys.random_(-(2**31), 2**31, generator=self.quantizer.generator)

    def __call__(self, x: Tensor, role: Role, index: int = 0) -> Tensor:
        """The tensor rounded as its role asks; itself where that is float32.

        Args:
            x: A floating-point tensor, or a complex one, which is rounded as two floats.
            role: What it is.
            index: Tells tensors of one role and pass apart, which must not share randomness.
        """
        choice: Choice = getattr(self.quantizer.scheme, role)
        if self.formats is None or choice is None:
            return x
        if x.is_complex():
            parts = torch.view_as_real(x.detach().resolve_conj())
            # .data is no view: autograd forbids changing in place a view that a function returned.
            return torch.view_as_complex(self(parts, role, index).contiguous()).data
        backend = self.quantizer.backend
        if backend == "qpytorch" and (fmt := self.quantizer.format(role)) is not None:
            return quantize(x, fmt, self.quantizer.scheme.rounding, backend=backend)
        keys = self.keys
        if keys is not None:
            # Multiples of the golden ratio: streams start as far apart as so many can.
            stream = (len(ROLES) * index + ROLES.index(role)) * GOLDEN_RATIO
            keys = keys + ((stream + 2**31) % 2**32 - 2**31)
        compiled = backend == "compiled" and not torch.compiler.is_compiling()
        return round_to(x, self.formats[choice == "B"], keys, compiled=compiled)
