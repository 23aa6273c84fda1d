"""Which format every tensor of a network has in a precision assignment, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from optuna_peppp.configurations.assignments import Rule
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.roles import RULED, Kept, Role
from optuna_peppp.configurations.sites import INPUT, Call, Groups

_OF_SITES: Final = ("activations", "activation_gradients", "saved")
_OF_PARAMETERS: Final = ("weights", "weight_gradients", "momentum", "accumulators")


@dataclass(frozen=True, slots=True)
class Layer:
    """A tensor that a call of a module makes, or a parameter, with its gradient.

    Attributes:
        name: Of the module, of its second call with ``#2``; ``(input)`` is the network's input,
            ``(operator 0)`` the first function that is a site; or of the parameter.
        group: Its group.
        numbers: How many it has.
        formats: By role, as text.
        low: Of how many of its roles the lower format is.
        ruled: Of how many the rule decides: of none of input, logits and what is exempt.
    """

    name: str
    group: int
    numbers: int
    formats: Mapping[str, str]
    low: int
    ruled: int


@dataclass(frozen=True, slots=True)
class Layers:
    """A precision assignment of a network.

    Attributes:
        low: The lower format of activations, as text.
        rule: What it follows.
        sites: In the order in which they are made.
        parameters: In the network's order.
        total: Numbers of all tensors and of their gradients.
    """

    low: str
    rule: Rule
    sites: tuple[Layer, ...]
    parameters: tuple[Layer, ...]
    total: int

    @classmethod
    def of(cls, recipe: Recipe, groups: Groups, exempt: Mapping[str, int]) -> Self:
        """The assignment that a recipe with a rule is on a network.

        Args:
            recipe: With a rule.
            groups: Of the network.
            exempt: Modules that are exempt from the recipe, and by which exemption.
        """
        rule = recipe.rule
        assert rule is not None
        assignment = rule.of(groups)
        of_low = {
            "activations": assignment.activations,
            "activation_gradients": assignment.gradients,
            "weights": assignment.weights,
        }

        def layer(
            key: int | str, name: str, module: str, group: int, numbers: int, end: Role | None
        ) -> Layer:
            roles: tuple[Role | Kept, ...] = _OF_PARAMETERS if key == name else _OF_SITES
            exemption = exempt.get(module)
            own, formats, low, ruled = recipe.exempt(exemption), {}, 0, 0
            if end is not None and not rule.ends:
                roles = (end,)
            for role in roles:
                fmt = own.get(role)
                if role in RULED and exemption is None:
                    ruled += 1
                    is_low = key in of_low[role]
                    low += is_low
                    fmt = fmt if is_low else rule.high
                if role != "saved" or fmt is not None:
                    formats[str(role)] = "float32" if fmt is None else str(fmt)
            return Layer(name, group, numbers, formats, low, ruled)

        sites = tuple(
            layer(n, _named(x.call), x.call[0], x.group, x.numbers, _end(x.call, groups))
            for n, x in enumerate(groups.sites)
        )
        parameters = tuple(
            layer(name, name, name.rpartition(".")[0], x.group, x.numbers, None)
            for name, x in groups.parameters.items()
        )
        lower = recipe.get("activations")
        text = "float32" if lower is None else str(lower)
        return cls(text, rule, sites, parameters, sum(groups.sizes))

    @property
    def ratio(self) -> float:
        """The share of all numbers, gradients among them, that have the lower format."""
        return sum(x.low * x.numbers for x in (*self.sites, *self.parameters)) / self.total

    @property
    def shares(self) -> tuple[float | None, ...]:
        """Of every group, the share of what the rule decides that is low; None of nothing."""
        count = 1 + max(site.group for site in self.sites)
        low, ruled = [0] * count, [0] * count
        for x in (*self.sites, *self.parameters):
            low[x.group] += x.low * x.numbers
            ruled[x.group] += x.ruled * x.numbers
        return tuple(a / b if b else None for a, b in zip(low, ruled, strict=True))

    def members(self, group: int) -> list[str]:
        """The names of the sites of a group."""
        return [site.name for site in self.sites if site.group == group]

    def as_json(self) -> str:
        """Format by name and role, with groups, the share of the lower format and the rule."""

        def told(layers: tuple[Layer, ...]) -> dict[str, object]:
            return {
                x.name: {"group": x.group, "numbers": x.numbers, "formats": dict(x.formats)}
                for x in layers
            }

        rule = self.rule
        content = {
            "low": self.low,
            "high": str(rule.high),
            "demotion": rule.demotion,
            "order": rule.order,
            "promotion": rule.promotion,
            "low_ratio": self.ratio,
            "sites": told(self.sites),
            "parameters": told(self.parameters),
        }
        return json.dumps(content, indent=2) + "\n"


def _named(call: Call) -> str:
    name, number = call
    if not name:
        return "(input)" if call == INPUT else f"(operator {number})"
    return name if number == 0 else f"{name}#{number + 1}"


def _end(call: Call, groups: Groups) -> Role | None:
    """Whether a call makes the input or the logits."""
    return "input" if call == INPUT else "logits" if call in groups.logits else None
