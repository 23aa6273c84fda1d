"""The tensors of a network, in groups between its matrix products: what an assignment decides on.

:func:`optuna_peppp.lowprecision.groups` finds them. A *site* is a tensor that a call of a module
makes, or of an operator where these are sites: the input is the first, and the output of every call
is one, unless it is a view of what another made, or that rearranged. Calls are walked in the order
in which they run. Each that computes a product, of matrices or as a convolution, begins a *group*
with its output; a parameter belongs to the group of what its reader reads, so that a product's
weights go with its input. Branches keep the linear order (Lee, Sharma, Aiken: Training with
Mixed-Precision Floating-Point Assignments, TMLR 2023).

Notation:
    v, dv: Tensors of the forward pass, and the gradients of the loss by them; p: parameters.
    (1) Size of a group: 2 sum |v| + 2 sum |p|, for v and dv, p and dp, in numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Call = tuple[str, int]
"""A module's name, and how often it had been called before in the pass; operators have the name of
nothing, and are numbered as one."""

INPUT: Final[Call] = "", -1
"""What stands for the call that makes the input."""


@dataclass(frozen=True, slots=True)
class Site:
    """A tensor of the forward pass, and its gradient.

    Attributes:
        call: What makes it.
        numbers: How many it has.
        group: Its group.
        is_product: Whether its call computes a product.
        reads: The sites, by number, that its call reads.
    """

    call: Call
    numbers: int
    group: int
    is_product: bool = False
    reads: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, and its gradient.

    Attributes:
        numbers: How many it has.
        group: Its group: that of what its first reader reads.
        readers: The sites, by number, whose calls read it.
    """

    numbers: int
    group: int
    readers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Groups:
    """The sites and the parameters of a network on inputs of one size.

    Attributes:
        sites: In the order in which they are made.
        calls: The number of the site that every call returns; several return one with views.
        parameters: By name.
        logits: The calls that compute the logits.
        kept: Of every group, the numbers of its parameters and those that the forward pass saves of
            it for the backward pass: what memory keeps. Empty where nobody counted.
    """

    sites: tuple[Site, ...]
    calls: Mapping[Call, int]
    parameters: Mapping[str, Parameter]
    logits: frozenset[Call] = frozenset()
    kept: tuple[int, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of every group by (1)."""
        sizes = [0] * (1 + max(site.group for site in self.sites))
        parts: tuple[Site | Parameter, ...] = (*self.sites, *self.parameters.values())
        for part in parts:
            sizes[part.group] += 2 * part.numbers
        return tuple(sizes)
