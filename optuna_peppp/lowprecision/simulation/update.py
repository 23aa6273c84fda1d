"""The update of an optimizer as a function of tensors: what can be compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.adam import adam

from optuna_peppp.configurations.loss_scale import DynamicLossScale
from optuna_peppp.configurations.roles import Role
from optuna_peppp.lowprecision.compatibility import copy_all
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.simulation.dynamic_scale import DynamicScale, all_finite
from optuna_peppp.lowprecision.simulation.straight_through import rounded_together

_ADAM: Final = ("weight_decay", "eps", "amsgrad", "capturable", "maximize")
"""The settings that Adam's functional form takes by their own names."""

_SQUARES: Final = ("exp_avg_sq", "max_exp_avg_sq")
"""States that are never negative."""


@dataclass(frozen=True, slots=True)
class UpdateGroup:
    """A parameter group of an optimizer as plain tensors and numbers, which can be compiled.

    Attributes:
        kind: The optimizer's class.
        parameters: The parameters that are updated.
        states: What the optimizer remembers of each.
        exempt: By which of the recipe's exemptions each is exempt, None for the others.
        learning_rate: A tensor, so that another step size is no other graph.
        momentum: A tensor, too, since schedules change it: SGD's momentum, Adam's first beta.
        settings: The other settings of the group.
    """

    kind: type[Optimizer]
    parameters: list[Tensor]
    states: list[dict[str, Tensor]]
    exempt: list[int | None]
    learning_rate: Tensor
    momentum: Tensor
    settings: dict[str, Any]


@torch.no_grad()
def update(
    groups: Sequence[UpdateGroup],
    gradients: Sequence[Tensor],
    rounder: Rounder,
    dynamic_scale: DynamicScale | None = None,
    max_norm: float | None = None,
) -> None:
    """What :meth:`LowPrecisionOptimizer.step` does, as one function of tensors.

    Args:
        groups: The parameter groups; their tensors are changed in place.
        gradients: Of all their parameters in turn, with the loss scale; changed in place.
        rounder: Of this step.
        dynamic_scale: The loss scale, where it is dynamic.
        max_norm: Norm of all gradients together beyond which they are scaled down; None for none.
    """
    for gradient in gradients:
        gradient.div_(factor_of(rounder, dynamic_scale))
    if max_norm is not None:
        _clip(gradients, max_norm)
    round_gradients(gradients, rounder, dynamic_scale)
    if dynamic_scale is None:
        _update(groups, gradients, rounder)
        return
    # No branch: the program does not wait for whether there is an overflow.
    finite = all_finite(gradients)
    tensors = [p for group in groups for p in group.parameters]
    tensors += [x for group in groups for state in group.states for x in state.values()]
    before = [x.clone() for x in tensors]
    _update(groups, gradients, rounder)
    for x, old in zip(tensors, before, strict=True):
        x.copy_(torch.where(finite, x, old))
    dynamic_scale.after(finite)


def _clip(gradients: Sequence[Tensor], max_norm: float) -> None:
    """What ``torch.nn.utils.clip_grad_norm_`` does, on gradients that no parameter holds."""
    share = max_norm / (get_total_norm(gradients) + 1e-6)
    for gradient in gradients:
        gradient.mul_(share.clamp(max=1.0))


def factor_of(rounder: Rounder, dynamic_scale: DynamicScale | None) -> Tensor | float:
    """The factor on the loss of a pass."""
    if dynamic_scale is not None:
        return dynamic_scale.factor
    factor = rounder.recipe.loss_scale
    assert not isinstance(factor, DynamicLossScale)  # it has a state
    return factor


def round_gradients(
    gradients: Sequence[Tensor], rounder: Rounder, dynamic_scale: DynamicScale | None
) -> None:
    """Rounds weight gradients in place, which do not carry the loss scale."""
    if not rounder.recipe.scaled_gradients:
        round_in_place(gradients, rounder, "weight_gradients")
        return
    factor = factor_of(rounder, dynamic_scale)
    for gradient in gradients:
        gradient.mul_(factor)
    round_in_place(gradients, rounder, "weight_gradients")
    for gradient in gradients:
        gradient.div_(factor)


def _update(groups: Sequence[UpdateGroup], gradients: Sequence[Tensor], rounder: Rounder) -> None:
    start = 0
    for group in groups:
        end = start + len(group.parameters)
        _optimize(group, list(gradients[start:end]))
        start = end
    parameters = [p for group in groups for p in group.parameters]
    states = [state for group in groups for state in group.states]
    exempt = [exemption for group in groups for exemption in group.exempt]
    round_update(parameters, states, exempt, rounder)


def momentum_of(group: Mapping[str, Any]) -> float:
    """What a parameter group of ``torch.optim`` keeps of the last step's direction."""
    return float(group["betas"][0] if "betas" in group else group["momentum"])


def _optimize(group: UpdateGroup, gradients: list[Tensor]) -> None:
    """A step of ``torch.optim``."""
    if not gradients:
        return
    if group.kind is SGD:
        _descend(group, gradients)
        return

    def state(name: str) -> list[Tensor]:
        return [state[name] for state in group.states if name in state]

    adam(
        group.parameters,
        gradients,
        state("exp_avg"),
        state("exp_avg_sq"),
        state("max_exp_avg_sq"),
        state("step"),
        beta1=group.momentum,
        beta2=group.settings["betas"][1],
        lr=group.learning_rate,
        decoupled_weight_decay=group.kind is AdamW,
        foreach=False,  # its form for many tensors cannot be traced with steps on the CPU
        **{name: value for name, value in group.settings.items() if name in _ADAM},
    )


def _descend(group: UpdateGroup, gradients: list[Tensor]) -> None:
    """A step of SGD, whose functional form in ``torch.optim`` wants momentum as a number."""
    settings = group.settings
    for weight, gradient, state in zip(group.parameters, gradients, group.states, strict=True):
        step = -gradient if settings["maximize"] else gradient
        if settings["weight_decay"]:
            step = step.add(weight, alpha=settings["weight_decay"])
        momentum = state.get("momentum_buffer")
        if momentum is not None:
            momentum.mul_(group.momentum).add_(step, alpha=1 - settings["dampening"])
            step = step + momentum * group.momentum if settings["nesterov"] else momentum
        weight.sub_(step * group.learning_rate)


def round_update(
    parameters: Sequence[Tensor],
    states: Sequence[dict[str, Tensor]],
    exempt: Sequence[int | None],
    rounder: Rounder,
) -> None:
    """Rounds updated weights and what the optimizer remembers of them, in place."""
    round_in_place(parameters, rounder, "accumulators")
    recipe = rounder.recipe
    remembered = [
        (exemption, name in _SQUARES, value)
        for state, exemption in zip(states, exempt, strict=True)
        for name, value in state.items()
        if name != "step" and value is not None and recipe.rounds_state(value.numel())
    ]
    # Whoever has randomness has a number of its own.
    start = 0
    for exemption in dict.fromkeys((None, *exempt)):
        own, values = rounder.of(exemption), [x for x in remembered if x[0] == exemption]
        if own.squares is None:
            round_in_place([x for *_, x in values], own, "momentum", start)
        else:
            plain = [x for _, is_square, x in values if not is_square]
            squares = [x for _, is_square, x in values if is_square]
            round_in_place(plain, own, "momentum", start)
            round_in_place(squares, own.of_squares(), "momentum", start + len(remembered))
        start += 2 * len(remembered)


def round_in_place(tensors: Sequence[Tensor], rounder: Rounder, role: Role, start: int = 0) -> None:
    """Rounds tensors of one role in place; ``start`` is the number of the first."""
    # A complex number is two, each rounded by itself; counts and indices are no numbers to round.
    tensors = [torch.view_as_real(x) if x.is_complex() else x for x in tensors]
    tensors = [x for x in tensors if x.is_floating_point()]
    if tensors and rounder.rounds(role):
        copy_all(tensors, rounded_together(tensors, rounder, role, start))
