"""What rounds the tensors of a training as its recipe says.

A training names its formats once, in a :class:`~optuna_peppp.configurations.recipe.Recipe`;
:class:`RoundingScheme` makes one of the paper's two formats. Everything that asks for a format, or
for its bits, looks a role up there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

import torch
from torch import Tensor

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.blocks import BlockFormat, Scaled
from optuna_peppp.configurations.elements import DynamicMap
from optuna_peppp.configurations.formats import Format
from optuna_peppp.configurations.loss_scale import DynamicLossScale, check_loss_scale
from optuna_peppp.configurations.names import BACKENDS, ROUNDINGS, Backend, Rounding
from optuna_peppp.configurations.precision import Precision, check_precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import ROLES, RULED, Formats, Kept, Role
from optuna_peppp.lowprecision.rounding.kernels import random_keys
from optuna_peppp.lowprecision.rounding.quantize import TensorFormat, on_device
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.text import quoted

__all__ = [
    "CHOICES",
    "DEFAULT_SCHEME",
    "Choice",
    "Quantizer",
    "Role",
    "RoundingScheme",
    "as_quantizer",
]

Choice = Literal["A", "B"] | None
"""Format A, Format B, or None for float32."""

CHOICES: Final[tuple[Choice, ...]] = ("A", "B", None)


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
        check_loss_scale(self.loss_scale)

    def recipe(self, precision: Precision | Recipe | None) -> Recipe:
        """The recipe, once Formats A and B are chosen; None rounds nothing.

        What is a recipe already stays as it is.

        Raises:
            ValueError: ``precision`` is none of these.
        """
        if isinstance(precision, Recipe):
            return precision
        if precision is None:
            return Recipe({}, loss_scale=self.loss_scale)
        check_precision(precision)
        formats = {"A": precision.format_a, "B": precision.format_b}
        choices = {role: getattr(self, role) for role in ROLES}
        stochastic = ROLES if self.rounding == "stochastic" else ()
        return Recipe(
            {role: formats[choice] for role, choice in choices.items() if choice is not None},
            frozenset(stochastic),
            self.loss_scale,
        )


DEFAULT_SCHEME: Final = RoundingScheme()

_GRADIENTS: Final = ("activation_gradients", "weight_gradients")
"""Roles of tensors of the backward pass alone."""


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Rounds the tensors of one training.

    Attributes:
        precision: The two formats or a recipe, or None to round nothing.
        scheme: What is rounded to which of the two formats; a recipe does not need it.
        generator: Source of randomness for stochastic rounding.
        backend: As in :func:`~optuna_peppp.lowprecision.rounding.quantize`.
        recipe: The format of every role that is rounded.

    Raises:
        ValueError: ``precision`` is no :class:`Precision`, or ``backend`` is unknown.
    """

    precision: Precision | Recipe | None
    scheme: RoundingScheme = DEFAULT_SCHEME
    generator: torch.Generator | None = None
    backend: Backend = "eager"
    recipe: Recipe = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, BACKENDS)
        object.__setattr__(self, "recipe", self.scheme.recipe(self.precision))

    def format(self, role: Role | Kept) -> Format | None:
        """The format of a role, None for float32."""
        return self.recipe.get(role)

    def rounder(self, device: torch.device) -> Rounder:
        """What rounds the tensors of one pass on a device, with randomness of its own."""
        recipe = self.recipe
        keys = None
        if recipe.stochastic & recipe.keys():
            keys = random_keys(device, self.generator)
        exempt = tuple(
            self._rounder(recipe.exempt(number), device, keys)
            for number in range(len(recipe.exemptions))
        )
        rounder, high = self._rounder(recipe, device, keys), None
        if recipe.rule is not None:
            formats = dict(recipe.formats)
            for role in RULED:
                if role in formats:
                    formats[role] = recipe.rule.high
            high = self._rounder(formats, device, keys)
        return replace(rounder, exempt=exempt, high=high)

    def _rounder(self, formats: Formats, device: torch.device, keys: Tensor | None) -> Rounder:
        def target(role: Role | Kept, fmt: Format) -> TensorFormat:
            stochastic = role in self.recipe.stochastic
            how: Rounding = "stochastic" if stochastic else "nearest"
            # A dynamic loss scale has to see what is too large.
            overflows = isinstance(self.recipe.loss_scale, DynamicLossScale) and role in _GRADIENTS
            return on_device(fmt, device, how, self.backend, overflows=overflows)

        states, squares = formats.get("momentum"), None
        if isinstance(states, Scaled) and isinstance(states.element, DynamicMap):
            unsigned = replace(states, element=DynamicMap(states.element.bits, signed=False))
            squares = target("momentum", unsigned)
        return Rounder(
            self.recipe,
            self.generator,
            {role: target(role, fmt) for role, fmt in formats.items()},
            keys,
            frozenset(role for role, fmt in formats.items() if isinstance(fmt, BlockFormat)),
            squares,
        )


def as_quantizer(quantizer: object) -> Quantizer:
    """What rounds as a recipe says, or a quantizer as it is; refuses all else.

    Raises:
        ValueError: It is neither; the message says how to make a quantizer.
    """
    if isinstance(quantizer, Recipe):
        return Quantizer(quantizer)
    if not isinstance(quantizer, Quantizer):
        remedy = "give Quantizer(precision)"
        if isinstance(quantizer, Precision):
            remedy = f"give Quantizer({quantizer!r})"
        raise ValueError(f"quantizer must be a Quantizer; got {quoted(quantizer)}: {remedy}")
    return quantizer
