"""In which order groups of tensors are demoted with the least harm, measured on one batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any, Final

import torch
from torch import Tensor, nn

from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision.simulation.groups import groups
from optuna_peppp.lowprecision.training.own_loop import low_precision

_ANY: Final = 1e-9
"""A share that the first group reaches, however small it is."""


def sensitivities(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss: Callable[[Any, Any], Tensor],
    recipe: Recipe,
    *,
    seed: int = 0,
) -> tuple[float, ...]:
    """How much a training changes when a group of tensors alone is demoted.

    Of every group |L' - L| / |L| + |g' - g| / |g|, for the loss L on one batch and the gradient g
    by all weights, which is the direction of the first update: without a stroke where everything
    has the higher format. Infinity where a number is none.

    It costs a forward and a backward pass on the batch for every group, and one more, eagerly, on
    copies of the network, one at a time: of G groups about 2 (G + 1) steps of a compiled training.

    Args:
        model: Any module; it is left unchanged.
        inputs: One batch, the network's one argument.
        targets: Of the batch.
        loss: From outputs and targets to one number.
        recipe: With a rule, of which the two formats count.
        seed: Of stochastic rounding and of what the network draws, the same in every pass.

    Raises:
        ValueError: The recipe has no rule.
    """
    count = len(groups(model, (inputs,), recipe.sites).sizes)
    return _measured(model, inputs, targets, loss, recipe, seed, count)


def _measured(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss: Callable[[Any, Any], Tensor],
    recipe: Recipe,
    seed: int,
    count: int,
) -> tuple[float, ...]:
    """The sensitivities of so many groups."""
    rule = recipe.rule
    if rule is None:
        raise ValueError("recipe must have a rule, as that of Recipe.assigned; got one without")

    def passes(first: int | None) -> tuple[Tensor, Tensor]:
        order = "-".join(map(str, sorted(range(count), key=lambda group: group != first)))
        alone = replace(rule, demotion=0.0 if first is None else _ANY, order=order, promotion=None)
        own = copy.deepcopy(model).train()
        optimizer = torch.optim.SGD(own.parameters(), lr=1.0)
        network, low = low_precision(own, optimizer, replace(recipe, rule=alone), seed=seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            reached = loss(network(inputs), targets)
            torch.autograd.backward(low.scale(reached))
        found = [p.grad.flatten() for p in own.parameters() if p.grad is not None]
        return reached.detach().double(), torch.cat(found).double()

    whole, direction = passes(None)
    found = []
    for group in range(count):
        other, gradient = passes(group)
        change = (other - whole).abs() / whole.abs()
        change = change + (gradient - direction).norm() / direction.norm()
        found.append(float(torch.nan_to_num(change, nan=torch.inf)))
    return tuple(found)


def sensitivity_order(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss: Callable[[Any, Any], Tensor],
    recipe: Recipe,
    *,
    seed: int = 0,
) -> str:
    """The order that demotes first what changes the training least for what it saves.

    Groups are sorted by their sensitivity, divided by the numbers that memory keeps of them.
    Arguments, cost and errors are those of :func:`sensitivities`.
    """
    kept = groups(model, (inputs,), recipe.sites).kept
    found = _measured(model, inputs, targets, loss, recipe, seed, len(kept))

    def harm(group: int) -> tuple[float, int]:
        change = found[group]
        return change and (change / kept[group] if kept[group] else inf), group

    return "-".join(map(str, sorted(range(len(found)), key=harm)))
