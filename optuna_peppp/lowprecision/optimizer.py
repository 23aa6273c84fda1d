"""Optimizers whose state is kept in low precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from optuna_peppp.lowprecision.scheme import Quantizer, Role, Rounder
from optuna_peppp.lowprecision.straight_through import rounded_together

OPTIMIZERS: Final[dict[str, Callable[..., Optimizer]]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
"""The supported optimizers by name."""


_FUNCTIONAL: Final[dict[type[Optimizer], tuple[str, ...]]] = {
    SGD: ("weight_decay", "momentum", "dampening", "nesterov", "maximize"),
    Adam: ("weight_decay", "eps", "amsgrad", "capturable", "maximize"),
    AdamW: ("weight_decay", "eps", "amsgrad", "capturable", "maximize"),
}
"""The settings that the functional form of an optimizer takes by their own names."""


class LowPrecisionOptimizer:
    """Rounds what an optimizer reads and keeps: gradients, momentum and weight accumulators.

    A step takes the loss scale off the gradients and rounds them, lets the optimizer update, and
    rounds the updated weights and the state shaped like them: the order of QPyTorch's ``OptimLP``.
    The parameters of the module hold the accumulators, from the start; what the forward pass
    sees is rounded once more, by :class:`LowPrecisionModule`.

    Args:
        optimizer: ``torch.optim.SGD``, ``Adam`` or ``AdamW``.
        quantizer: Rounds its tensors.

    Raises:
        TypeError: Another optimizer.
    """

    def __init__(self, optimizer: Optimizer, quantizer: Quantizer) -> None:
        if not isinstance(optimizer, (SGD, Adam, AdamW)):
            raise TypeError(
                f"optimizer must be torch.optim.SGD, Adam or AdamW; got {type(optimizer).__name__}"
            )
        self._optimizer = optimizer
        self._quantizer = quantizer
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        with torch.no_grad():
            _round_in_place(parameters, self._rounder(parameters), "accumulators")

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the loss scale: what to call ``backward`` on."""
        return loss * self._quantizer.scheme.loss_scale

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self._optimizer.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        """Updates the parameters that have a gradient."""
        parameters = [
            p
            for group in self._optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        rounder = self._rounder(parameters)
        _round_gradients([p.grad for p in parameters], rounder)
        self._optimizer.step()
        states = [self._optimizer.state[p] for p in parameters]
        _round_update(parameters, states, rounder)

    def groups(self) -> list[UpdateGroup]:
        """What :func:`update` reads and changes, once a first :meth:`step` has made the state.

        Raises:
            ValueError: That step found a parameter without a gradient.
        """
        state = self._optimizer.state
        groups = []
        for group in self._optimizer.param_groups:
            settings = dict(group)
            parameters, learning_rate = settings.pop("params"), settings.pop("lr")
            if any(p.grad is None for p in parameters):
                raise ValueError("a parameter had no gradient")
            states = [
                {name: value for name, value in state[p].items() if value is not None}
                for p in parameters
            ]
            kind = type(self._optimizer)
            if kind is SGD:  # the others do not take a tensor
                device = parameters[0].device
                learning_rate = torch.as_tensor(learning_rate, dtype=torch.float32, device=device)
            groups.append(UpdateGroup(kind, parameters, states, learning_rate, settings))
        return groups

    def _rounder(self, parameters: Sequence[Tensor]) -> Rounder:
        device = parameters[0].device if parameters else torch.device("cpu")
        return self._quantizer.rounder(device)


@dataclass(frozen=True, slots=True)
class UpdateGroup:
    """A parameter group of an optimizer as plain tensors and numbers, which can be compiled.

    Attributes:
        kind: The optimizer's class.
        parameters: The parameters that are updated.
        states: What the optimizer remembers of each.
        learning_rate: A tensor where possible, so that another step size is no other graph.
        settings: The other settings of the group.
    """

    kind: type[Optimizer]
    parameters: list[Tensor]
    states: list[dict[str, Tensor]]
    learning_rate: Tensor | float
    settings: dict[str, Any]


@torch.no_grad()
def update(groups: Sequence[UpdateGroup], gradients: Sequence[Tensor], rounder: Rounder) -> None:
    """What :meth:`LowPrecisionOptimizer.step` does, as one function of tensors.

    Args:
        groups: The parameter groups; their tensors are changed in place.
        gradients: Of all their parameters in turn, with the loss scale; changed in place.
        rounder: Of this step.
    """
    _round_gradients(gradients, rounder)
    start = 0
    for group in groups:
        end = start + len(group.parameters)
        _optimize(group, list(gradients[start:end]))
        start = end
    parameters = [p for group in groups for p in group.parameters]
    states = [state for group in groups for state in group.states]
    _round_update(parameters, states, rounder)


def _optimize(group: UpdateGroup, gradients: list[Tensor]) -> None:
    """A step of ``torch.optim``, in its functional form."""
    settings = {
        name: value for name, value in group.settings.items() if name in _FUNCTIONAL[group.kind]
    }

    def state(name: str) -> list[Tensor]:
        return [state[name] for state in group.states if name in state]

    if group.kind is SGD:
        momentum: list[Tensor | None] = [s.get("momentum_buffer") for s in group.states]
        sgd(group.parameters, gradients, momentum, lr=group.learning_rate, foreach=True, **settings)
    else:
        beta1, beta2 = group.settings["betas"]
        adam(
            group.parameters,
            gradients,
            state("exp_avg"),
            state("exp_avg_sq"),
            state("max_exp_avg_sq"),
            state("step"),
            beta1=beta1,
            beta2=beta2,
            lr=group.learning_rate,
            decoupled_weight_decay=group.kind is AdamW,
            foreach=False,  # its form for many tensors cannot be traced with steps on the CPU
            **settings,
        )


def _round_gradients(gradients: Sequence[Tensor], rounder: Rounder) -> None:
    """Takes the loss scale off and rounds, in place."""
    for gradient in gradients:
        gradient.div_(rounder.quantizer.scheme.loss_scale)
    _round_in_place(gradients, rounder, "weight_gradients")


def _round_update(
    parameters: Sequence[Tensor], states: Sequence[dict[str, Tensor]], rounder: Rounder
) -> None:
    """Rounds updated weights and what the optimizer remembers of them, in place."""
    _round_in_place(parameters, rounder, "accumulators")
    remembered = [
        value
        for state in states
        for name, value in state.items()
        if name != "step" and value is not None
    ]
    _round_in_place(remembered, rounder, "momentum")


def _round_in_place(tensors: Sequence[Tensor], rounder: Rounder, role: Role) -> None:
    if tensors and rounder.rounds(role):
        torch._foreach_copy_(list(tensors), rounded_together(tensors, rounder, role))
