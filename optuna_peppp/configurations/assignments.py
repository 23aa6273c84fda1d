"""Precision assignments: which tensors have a lower format, and which a higher one.

A rule takes groups of tensors (:mod:`~optuna_peppp.configurations.sites`) in an order and demotes
them to the lower format until a share of all numbers is reached (Lee et al., TMLR 2023,
Algorithm 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

import numpy as np

from optuna_peppp.configurations.formats import Format
from optuna_peppp.configurations.sites import Groups
from optuna_peppp.text import quoted

ORDERS: Final = ("decreasing", "increasing", "saved", "operator")
"""Orders of demotion, besides ``random-SEED`` and groups by number."""

_RANDOM: Final = re.compile(r"random-(\d{1,9})", re.ASCII)
_NUMBERS: Final = re.compile(r"\d+(-\d+)*", re.ASCII)
_SHARE: Final = 1e-12
"""Rounding of a share: what falls short of it by less has reached it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which tensors of a training have a higher format than their role's.

    Of the roles of the passes: weights, activations and the gradients of activations.

    Attributes:
        high: The higher format.
        demotion: Groups are demoted, taken out of the higher format, until these hold at least so
            large a share of all numbers: 0 demotes none, 1 all.
        order: In which order: ``"decreasing"`` or ``"increasing"`` size, ``"random-SEED"``,
            ``"saved"``, those first that save most of what is kept; or all groups by their
            numbers, the first to be demoted first, such as ``"2-0-1"``, as
            :func:`~optuna_peppp.lowprecision.sensitivity_order` measures them; or
            ``"operator"``, which demotes tensor by tensor, whatever ``demotion``, what products
            read and the gradients of what they give, but for the first and the last (HFP8, Sun et
            al., 2019).
        promotion: A weight or activation is promoted to the higher format for the rest of the
            training once this share of its numbers overflows in a step; None promotes none.
        ends: Whether the network's input and its logits are activations like all others, to be
            demoted with their groups; else they have the formats of their own roles.

    Raises:
        ValueError: A share is none, or there is no such order.
    """

    high: Format
    demotion: float = 1.0
    order: str = "decreasing"
    promotion: float | None = None
    ends: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.demotion <= 1:
            raise ValueError(f"demotion must be between 0 and 1; got {self.demotion!r}")
        if self.promotion is not None and not (self.promotion > 0 and isfinite(self.promotion)):
            raise ValueError(
                "promotion must be a share above 0, such as 0.01, or None for none; got "
                f"{self.promotion!r}"
            )
        if self.order not in ORDERS and not _is_order(self.order):
            raise ValueError(
                f"order must be one of {', '.join(ORDERS)}, random-SEED, such as random-0, or the "
                f"numbers of all groups, such as 2-0-1; got {quoted(self.order)}"
            )

    def of(self, groups: Groups) -> Assignment:
        """The assignment of a network's tensors.

        Raises:
            ValueError: The order needs what the groups do not tell, or names others.
        """
        if self.order == "operator":
            return _by_operator(groups)
        low = demoted(groups.sizes, self.demotion, self.order, groups.kept)
        sites = frozenset(n for n, site in enumerate(groups.sites) if site.group in low)
        parameters = groups.parameters.items()
        return Assignment(
            sites,
            sites,
            frozenset(name for name, parameter in parameters if parameter.group in low),
        )


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which tensors have the lower format; all others have the higher one.

    Attributes:
        activations: Sites, by number.
        gradients: Sites, by number, whose gradients have it.
        weights: Parameters, by name.
    """

    activations: frozenset[int]
    gradients: frozenset[int]
    weights: frozenset[str]

    def bits(
        self, groups: Groups, low: float, low_gradient: float, high: float, weight_gradient: float
    ) -> float:
        """Bits of all tensors of a step, gradients among them: the paper's measure of memory.

        Args:
            groups: Of the network.
            low: Bits of a demoted weight or activation.
            low_gradient: Bits of a demoted gradient of an activation.
            high: Bits of what is not demoted.
            weight_gradient: Bits of a gradient of a weight, which is never demoted.
        """
        total = 0.0
        for number, site in enumerate(groups.sites):
            total += site.numbers * (low if number in self.activations else high)
            total += site.numbers * (low_gradient if number in self.gradients else high)
        for name, parameter in groups.parameters.items():
            bits = low if name in self.weights else high
            total += parameter.numbers * (bits + weight_gradient)
        return total


def demoted(
    sizes: Sequence[int],
    demotion: float,
    order: str = "decreasing",
    kept: Sequence[int] = (),
) -> frozenset[int]:
    """The groups to demote: the first in an order that hold a share of all numbers.

    Args:
        sizes: Numbers of every group.
        demotion: The share to reach.
        order: As for :class:`Rule`, but for ``"operator"``; of equal sizes the first comes first.
        kept: Numbers of every group that memory keeps, for ``"saved"``.

    Raises:
        ValueError: ``kept`` is missing, or the order is not of these groups.
    """
    order_of = _ordered(sizes, order, kept)
    reached, total, taken = 0, sum(sizes), []
    for group in order_of:
        if reached >= (demotion - _SHARE) * total:
            break
        taken.append(group)
        reached += sizes[group]
    return frozenset(taken)


def share(sizes: Sequence[int], groups: frozenset[int]) -> float:
    """The share of all numbers that groups hold.

    >>> share((106, 176, 42), demoted((106, 176, 42), 0.5))
    0.5432098765432098
    """
    return sum(sizes[group] for group in groups) / sum(sizes)


def _ordered(sizes: Sequence[int], order: str, kept: Sequence[int]) -> list[int]:
    groups = range(len(sizes))
    if _NUMBERS.fullmatch(order):
        numbers = [*map(int, order.split("-"))]
        if sorted(numbers) != [*groups]:
            raise ValueError(
                f"order must name every group from 0 to {len(sizes) - 1} once; got {quoted(order)}"
            )
        return numbers
    if match := _RANDOM.fullmatch(order):
        permutation: list[int] = np.random.default_rng(int(match[1])).permutation(groups).tolist()
        return permutation
    if order == "saved":
        if len(kept) != len(sizes):
            raise ValueError(
                "order 'saved' needs to know what memory keeps of every group; take groups that "
                "optuna_peppp.lowprecision.groups found"
            )
        return sorted(groups, key=lambda group: (-kept[group], group))
    sign = 1 if order == "increasing" else -1
    return sorted(groups, key=lambda group: (sign * sizes[group], group))


def _is_order(order: object) -> bool:
    ways = _RANDOM, _NUMBERS
    return isinstance(order, str) and any(way.fullmatch(order) for way in ways)


def _by_operator(groups: Groups) -> Assignment:
    """What products read, and the gradients of what they give, but for both ends."""
    sites, last = groups.sites, groups.sites[-1].group
    products = [n for n, site in enumerate(sites) if site.is_product]
    activations = {read for n in products for read in sites[n].reads}
    first = {n for n, site in enumerate(sites) if 0 in site.reads}
    end = {n for n, site in enumerate(sites) if site.group == last}
    ends = {0} | first | end | {read for n in end for read in sites[n].reads}
    weights: Mapping[str, frozenset[int]] = {
        name: parameter.readers for name, parameter in groups.parameters.items()
    }
    return Assignment(
        frozenset(activations - ends),
        frozenset(set(products) - ends),
        frozenset(
            name
            for name, readers in weights.items()
            if readers & set(products) and not readers & (first | end)
        ),
    )
