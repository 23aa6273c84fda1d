"""What rounds the tensors of one forward and backward pass, or of one update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

import torch
from torch import Tensor

from optuna_peppp.configurations.formats import Format
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import ROLES, Kept, Role
from optuna_peppp.lowprecision.rounding.kernels import GOLDEN_RATIO
from optuna_peppp.lowprecision.rounding.packing import Packed, pack
from optuna_peppp.lowprecision.rounding.tensor_formats import TensorFormat, either


@dataclass(frozen=True, slots=True)
class Rounder:
    """Rounds the tensors of one forward and backward pass, or of one update.

    What changes from one configuration or pass to the next is in tensors, so that the passes of
    all configurations whose numbers share scales in the same way are one compiled graph. Every
    role has tensors of its own, whichever roles have equal formats.

    Attributes:
        recipe: That it follows.
        generator: Source of randomness.
        formats: The format of every role that is rounded.
        keys: Randomness of the pass, None to round to nearest.
        blocked: Roles whose numbers share scales.
        squares: Format of optimizer states that are never negative, None where it is that of the
            others.
        exempt: What rounds the tensors of exempt modules, in the order of the exemptions.
        high: What rounds the tensors to which the recipe's rule gives the higher format, None where
            there is no rule.
    """

    recipe: Recipe
    generator: torch.Generator | None
    formats: dict[Role | Kept, TensorFormat]
    keys: Tensor | None
    blocked: frozenset[Role | Kept] = frozenset()
    squares: TensorFormat | None = None
    exempt: tuple[Self, ...] = ()
    high: Self | None = None

    def rounds(self, role: Role | Kept) -> bool:
        """Whether tensors of this role are rounded."""
        return role in self.formats

    def of(self, exemption: int | None) -> Rounder:
        """What rounds the tensors of modules that an exemption covers; itself for None."""
        return self if exemption is None else self.exempt[exemption]

    def between(self, low: Mapping[Role, Tensor]) -> Rounder:
        """What rounds to its own formats or to the higher one, by a flag a role.

        Args:
            low: By role, a boolean scalar that is true where it rounds to its own, or one for
                every number of a vector.
        """
        assert self.high is not None
        formats = dict(self.formats)
        for role, is_low in low.items():
            if role in formats:
                formats[role] = either(formats[role], self.high.formats[role], is_low)
        return replace(self, formats=formats, blocked=self.blocked | self.high.blocked)

    def of_squares(self) -> Rounder:
        """What rounds optimizer states that are never negative."""
        if self.squares is None:
            return self
        return replace(self, formats={**self.formats, "momentum": self.squares})

    def renew(self) -> None:
        """Draws the randomness of another pass, into the same tensor."""
        if self.keys is not None:
            self.keys.random_(-(2**31), 2**31, generator=self.generator)

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

    def pack(self, x: Tensor, fmt: Format, role: Role, index: int = 0) -> Packed:
        """The tensor packed into the format of its role, as calling this rounds it."""
        return self._pack(x, fmt, role, len(ROLES) * index + ROLES.index(role))

    def pack_kept(self, x: Tensor, fmt: Format, role: Role, index: int) -> Packed:
        """What is kept of a tensor, packed, as :meth:`kept` rounds it."""
        return self._pack(x, fmt, "saved", len(ROLES) * (index + _KEPT) + ROLES.index(role))

    def _pack(self, x: Tensor, fmt: Format, role: Role | Kept, stream: int) -> Packed:
        return pack(x, fmt, self._randomness(role, stream), _axis(x, role))

    def _randomness(self, role: Role | Kept, stream: int) -> Tensor | None:
        """The keys of a tensor; None where it is rounded to nearest."""
        if self.keys is None or role not in self.recipe.stochastic:
            return None
        # Multiples of the golden ratio: streams start as far apart as so many can.
        return self.keys + ((stream * GOLDEN_RATIO + 2**31) % 2**32 - 2**31)

    def _round(self, x: Tensor, role: Role | Kept, stream: int) -> Tensor:
        fmt = self.formats.get(role)
        if fmt is None:
            return x
        if x.is_complex():
            parts = torch.view_as_real(x.detach().resolve_conj())
            # .data is no view: autograd forbids changing in place a view that a function returned.
            rounded = self._round(parts, role, stream).contiguous()
            return torch.view_as_complex(rounded).data
        keys = self._randomness(role, stream)
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
