"""What is rounded to which format, and how.

A training names its formats once: :meth:`RoundingScheme.recipe` says which format each role has,
and everything that asks for a format, or for its bits, looks a role up there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.names import BACKENDS, ROUNDINGS, Backend, Rounding
from optuna_peppp.configurations.precision import Precision, check_precision
from optuna_peppp.lowprecision.rounding.kernels import GOLDEN_RATIO, random_keys
from optuna_peppp.lowprecision.rounding.quantize import TensorFormat, on_device
from optuna_peppp.text import quoted

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

ROLES: Final[tuple[Role, ...]] = get_args(Role)

Recipe = dict[Role, FloatFormat]
"""The format of every role that is rounded; a role that is left out is float32."""


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

    def recipe(self, precision: Precision | None) -> Recipe:
        """The format of every role, once Formats A and B are chosen; None rounds nothing.

        Raises:
            ValueError: ``precision`` is neither.
        """
        if precision is None:
            return {}
        check_precision(precision)
        formats = {"A": precision.format_a, "B": precision.format_b}
        choices = {role: getattr(self, role) for role in ROLES}
        return {role: formats[choice] for role, choice in choices.items() if choice is not None}


DEFAULT_SCHEME: Final = RoundingScheme()


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Rounds the tensors of one training.

    Attributes:
        precision: The two formats, or None to round nothing.
        scheme: What is rounded to which of them.
        generator: Source of randomness for stochastic rounding.
        backend: As in :func:`~optuna_peppp.lowprecision.rounding.quantize`.
        recipe: The format of every role that is rounded; made of the two formats and the scheme.

    Raises:
        ValueError: ``precision`` is no :class:`Precision`, or ``backend`` is unknown.
    """

    precision: Precision | None
    scheme: RoundingScheme = DEFAULT_SCHEME
    generator: torch.Generator | None = None
    backend: Backend = "eager"
    recipe: Recipe = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, BACKENDS)
        object.__setattr__(self, "recipe", self.scheme.recipe(self.precision))

    def format(self, role: Role) -> FloatFormat | None:
        """The format of a role, None for float32."""
        return self.recipe.get(role)

    def rounder(self, device: torch.device) -> Rounder:
        """What rounds the tensors of one pass on a device, with randomness of its own."""
        rounding = self.scheme.rounding
        formats = {
            role: on_device(fmt, device, rounding, self.backend)
            for role, fmt in self.recipe.items()
        }
        keys = None
        if rounding == "stochastic" and formats:
            keys = random_keys(device, self.generator)
        return Rounder(self, formats, keys)


def check_quantizer(quantizer: object) -> None:
    """Refuses what is no quantizer, and says how to make one.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(quantizer, Quantizer):
        remedy = "give Quantizer(precision)"
        if isinstance(quantizer, Precision):
            remedy = f"give Quantizer({quantizer!r})"
        raise ValueError(f"quantizer must be a Quantizer; got {quoted(quantizer)}: {remedy}")


@dataclass(frozen=True, slots=True)
class Rounder:
    """Rounds the tensors of one forward and backward pass, or of one update.

    What changes from one configuration or pass to the next is in tensors, so that the passes of
    all configurations are one compiled graph. Every role has tensors of its own, whichever roles
    have equal formats.

    Attributes:
        quantizer: What it rounds for.
        formats: The format of every role that is rounded.
        keys: Randomness of the pass, None to round to nearest.
    """

    quantizer: Quantizer
    formats: dict[Role, TensorFormat]
    keys: Tensor | None

    def rounds(self, role: Role) -> bool:
        """Whether tensors of this role are rounded."""
        return role in self.formats

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
        fmt = self.formats.get(role)
        if fmt is None:
            return x
        if x.is_complex():
            parts = torch.view_as_real(x.detach().resolve_conj())
            # .data is no view: autograd forbids changing in place a view that a function returned.
            return torch.view_as_complex(self(parts, role, index).contiguous()).data
        keys = self.keys
        if keys is not None:
            # Multiples of the golden ratio: streams start as far apart as so many can.
            stream = (len(ROLES) * index + ROLES.index(role)) * GOLDEN_RATIO
            keys = keys + ((stream + 2**31) % 2**32 - 2**31)
        return fmt.round(x, keys)
