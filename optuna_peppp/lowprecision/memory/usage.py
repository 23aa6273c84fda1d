"""Bytes that a training needs, of the numbers that it keeps and the recipe that they have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from optuna_peppp.configurations.assignments import Rule
from optuna_peppp.configurations.formats import Format, MachineFloat
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import Kind, Role
from optuna_peppp.configurations.sites import INPUT, Call, Groups
from optuna_peppp.lowprecision.rounding.exemptions import exempt_modules
from optuna_peppp.lowprecision.rounding.scheme import DEFAULT_SCHEME, RoundingScheme

_FLOAT32_BITS: Final = 32


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Bytes that one training needs, part by part (paper, Section 3.1 and Figure 5).

    Scales count; those of whole tensors do not.

    Attributes:
        weights: Weights, as the passes see them.
        activations: What the forward pass keeps for the backward pass.
        optimizer: Weight gradients, momentum and weight accumulators.
        gradients: Weight gradients, of the bytes of the optimizer.
        states: Momentum, of the bytes of the optimizer.
        promotion: What more it can come to where a recipe's rule promotes tensors that overflow.
    """

    weights: int
    activations: int
    optimizer: int
    gradients: int = field(default=0, compare=False)
    states: int = field(default=0, compare=False)
    promotion: int = field(default=0, compare=False)

    @property
    def master(self) -> int:
        """Weight accumulators, of the bytes of the optimizer."""
        return self.optimizer - self.gradients - self.states

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.optimizer

    @property
    def upper_bound(self) -> int:
        """The most that it can come to: the total without a rule that promotes."""
        return self.total + self.promotion


class Numbers(NamedTuple):
    """So many numbers of a role: of a tensor, or of all that a call of a module returned.

    Attributes:
        role: Their role.
        size: How many.
        module: Whose exemptions they share.
        call: Of activations and their gradients, the call that made them.
        parameter: Of weights, the name.
    """

    role: Role
    size: int
    module: str = ""
    call: Call = INPUT
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many numbers each part of a training keeps.

    Attributes:
        weights: Of the part of this name, as :class:`MemoryUsage` explains.
        activations: As above.
        optimizer: As above.
        kinds: The kinds of the network's modules, by which exemptions go.
        groups: Finds the groups of the network's tensors, by which rules go.
    """

    weights: Sequence[Numbers]
    activations: Sequence[Numbers]
    optimizer: Sequence[Numbers]
    kinds: Mapping[str, frozenset[Kind]] = field(default_factory=dict)
    groups: Callable[[], Groups] | None = None

    def at(
        self, precision: Precision | Recipe | None, scheme: RoundingScheme = DEFAULT_SCHEME
    ) -> MemoryUsage:
        """Their bytes at one precision, every part rounded up; None is float32.

        Raises:
            ValueError: The recipe names a module that the network does not have, or it has a rule
                and the accounting knows no groups.
        """
        recipe = scheme.recipe(precision)
        if recipe.rule is None:
            return self._at(recipe, None)
        if self.groups is None:
            raise ValueError("accounting 'paper' knows no groups, by which the recipe's rule goes")
        demoted = _Demoted(recipe.rule, self.groups())
        usage = self._at(recipe, demoted)
        if recipe.rule.promotion is None:
            return usage
        # Gradients are never promoted, but none of them is kept.
        none = replace(recipe.rule, demotion=0.0, order="decreasing")
        most = self._at(recipe, _Demoted(none, demoted.groups))
        return replace(usage, promotion=most.total - usage.total)

    def _at(self, recipe: Recipe, demoted: _Demoted | None) -> MemoryUsage:
        exempt = exempt_modules(self.kinds, recipe) if self.kinds else {}

        def bits(numbers: Numbers) -> float:
            exemption = exempt.get(numbers.module)
            if demoted is not None and exemption is None and demoted.is_high(numbers):
                return numbers.size * demoted.rule.high.bits
            return numbers.size * _bits(numbers, recipe, exemption)

        of: dict[Role, list[float]] = {"weight_gradients": [], "momentum": [], "accumulators": []}
        for numbers in self.optimizer:
            of[numbers.role].append(bits(numbers))
        every = of["weight_gradients"]
        gradients = max(every, default=0.0) if recipe.transient_gradients else sum(every)
        # Rounded up as one, so that the parts add up.
        with_states = gradients + sum(of["momentum"])
        return MemoryUsage(
            weights=_bytes(sum(map(bits, self.weights))),
            activations=_bytes(sum(map(bits, self.activations))),
            optimizer=_bytes(with_states + sum(of["accumulators"])),
            gradients=_bytes(gradients),
            states=_bytes(with_states) - _bytes(gradients),
        )


class _Demoted:
    """Which numbers of a network keep the higher format of a rule."""

    def __init__(self, rule: Rule, groups: Groups) -> None:
        self.rule = rule
        self.groups = groups
        self._assignment = rule.of(groups)

    def is_high(self, numbers: Numbers) -> bool:
        """Whether these do; other roles than those of a rule never do."""
        if numbers.role == "weights":
            return numbers.parameter not in self._assignment.weights
        low = {
            "activations": self._assignment.activations,
            "activation_gradients": self._assignment.gradients,
        }.get(numbers.role)
        return low is not None and self.groups.calls.get(numbers.call) not in low


def _bytes(bits: float) -> int:
    return math.ceil(bits / 8)


def _bits(numbers: Numbers, recipe: Recipe, exemption: int | None) -> float:
    """Bits of one number."""
    formats, role = recipe.exempt(exemption), numbers.role
    fmt = formats.get(role)
    if role == "activations":
        fmt = formats.get("saved", fmt)
    elif role == "momentum" and not recipe.rounds_state(numbers.size):
        fmt = None
    elif role == "weights" and _is_part_of(fmt, formats.get("accumulators")):
        return 0.0
    return _FLOAT32_BITS if fmt is None else fmt.bits


def _is_part_of(weights: Format | None, master: Format | None) -> bool:
    """Whether weights can be read from the master weights, so that they are kept once.

    float24 is a bfloat16 and 8 bits more. The paper's formats are kept twice (Figure 5).
    """
    if not isinstance(weights, MachineFloat) or not isinstance(master, MachineFloat):
        return False
    return weights.name == master.name or (weights.name, master.name) == ("bfloat16", "float24")
