"""What rounds the tensors of a training as its recipe says.

A training names its formats once, in a :class:`~optuna_peppp.configurations.recipe.Recipe`;
:class:`RoundingScheme` makes one of the paper's two formats. Everything that asks for a format, or
for its bits, looks a role up there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self

import torch
from torch import Tensor

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.blocks import BlockFormat, Scaled
from optuna_peppp.configurations.elements import DynamicMap
from optuna_peppp.configurations.formats import Format
from optuna_peppp.configurations.loss_scale import check_loss_scale
from optuna_peppp.configurations.names import BACKENDS, ROUNDINGS, Backend, Rounding
from optuna_peppp.configurations.precision import Precision, check_precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import ROLES, Formats, Kept, Role
from optuna_peppp.lowprecision.rounding.kernels import GOLDEN_RATIO, random_keys
from optuna_peppp.lowprecision.rounding.quantize import TensorFormat, on_device
from optuna_peppp.text import quoted

__all__ = [
    "CHOICES",
    "DEFAULT_SCHEME",
    "Choice",
    "Quantizer",
    "Role",
    "Rounder",
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
        return replace(self._rounder(recipe, device, keys), exempt=exempt)

    def _rounder(self, formats: Formats, device: torch.device, keys: Tensor | None) -> Rounder:
        def target(role: Role | Kept, fmt: Format) -> TensorFormat:
            stochastic = role in self.recipe.stochastic
            return on_device(fmt, device, "stochastic" if stochastic else "nearest", self.backend)

        states, squares = formats.get("momentum"), None
        if isinstance(states, Scaled) and isinstance(states.element, DynamicMap):
            unsigned = replace(states, element=DynamicMap(states.element.bits, signed=False))
            squares = target("momentum", unsigned)
        return Rounder(
            self,
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


@dataclass(frozen=True, slots=True)
class Rounder:
    """Rounds the tensors of one forward and backward pass, or of one update.

    What changes from one configuration or pass to the next is in tensors, so that the passes of
    all configurations whose numbers share scales in the same way are one compiled graph. Every
    role has tensors of its own, whichever roles have equal formats.

    Attributes:
        quantizer: What it rounds for.
        formats: The format of every role that is rounded.
        keys: Randomness of the pass, None to round to nearest.
        blocked: Roles whose numbers share scales.
        squares: Format of optimizer states that are never negative, None where it is that of the
            others.
        exempt: What rounds the tensors of exempt modules, in the order of the exemptions.
    """

    quantizer: Quantizer
    formats: dict[Role | Kept, TensorFormat]
    keys: Tensor | None
    blocked: frozenset[Role | Kept] = frozenset()
    squares: TensorFormat | None = None
    exempt: tuple[Self, ...] = ()

    def rounds(self, role: Role | Kept) -> bool:
        """Whether tensors of this role are rounded."""
        return role in self.formats

    def of(self, exemption: int | None) -> Rounder:
        """What rounds the tensors of modules that an exemption covers; itself for None."""
        return self if exemption is None else self.exempt[exemption]

    def of_squares(self) -> Rounder:
        """What rounds optimizer states that are never negative."""
        if self.squares is None:
            return self
        return replace(self, formats={**self.formats, "momentum": self.squares})

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
        return self._round(x, role, len(ROLES) * index + ROLES.index(role))

    def kept(self, x: Tensor, role: Role, index: int) -> Tensor:
        """What is kept of a tensor for the backward pass: that rounded once more, or itself.

        Args:
            x: As it was rounded.
            role: What it is.
            index: As above.
        """
        return self._round(x, "saved", len(ROLES) * (index + _KEPT) + ROLES.index(role))

    def _round(self, x: Tensor, role: Role | Kept, stream: int) -> Tensor:
        fmt = self.formats.get(role)
        if fmt is None:
            return x
        if x.is_complex():
            parts = torch.view_as_real(x.detach().resolve_conj())
            # .data is no view: autograd forbids changing in place a view that a function returned.
            rounded = self._round(parts, role, stream).contiguous()
            return torch.view_as_complex(rounded).data
        keys = self.keys if role in self.quantizer.recipe.stochastic else None
        if keys is not None:
            # Multiples of the golden ratio: streams start as far apart as so many can.
            keys = keys + ((stream * GOLDEN_RATIO + 2**31) % 2**32 - 2**31)
        if role not in self.blocked:
            return fmt.round(x, keys)
        return fmt.round(x, keys, _axis(x, role))


_KEPT: Final = 2**21
"""Where the streams of what is kept begin; second derivatives lie below."""

_THROUGH: Final = ("momentum", "saved")
"""Roles of what no product reads: blocks run through the whole tensor."""


def _axis(x: Tensor, role: Role | Kept) -> int | None:
    """Along which axis blocks run: features, which are the channels of images and convolutions."""
    if role in _THROUGH:
        return None
    return 1 if x.dim() >= 4 else -1
