"""A pass from where it stands, and what its sites are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from optuna_peppp.configurations.sites import Call
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.simulation.assigned import Assigned


@dataclass(frozen=True, slots=True)
class Roles:
    """What sites are that are no activations.

    Attributes:
        logits: Calls that compute the logits.
        constants: Operators that compute from integers and constants alone, as masks and tables of
            positions: they are not rounded.
    """

    logits: frozenset[Call] = frozenset()
    constants: frozenset[Call] = frozenset()


@dataclass(frozen=True, slots=True)
class Part:
    """A pass from where it stands, to be computed again.

    Attributes:
        rounder: Of the pass.
        roles: Of the sites.
        weights: The weights, rounded.
        state: Tensors that are no part of the pass, where operators are rounded.
        index: How many tensors were numbered before.
        logits_index: How many tensors of the logits were.
        calls: How often every module was called.
        running: The modules that run, where operators are rounded.
        assigned: Which activations have the lower format, where a rule says.
    """

    rounder: Rounder
    roles: Roles
    weights: dict[str, Tensor]
    state: list[Tensor]
    index: int
    logits_index: int
    calls: dict[str, int]
    running: tuple[str, ...]
    assigned: Assigned | None
