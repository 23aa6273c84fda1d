"""Optimizers whose state is kept in low precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from optuna_peppp.configurations.recipe import DynamicLossScale, Recipe, Role
from optuna_peppp.lowprecision.compatibility import copy_all
from optuna_peppp.lowprecision.rounding.scheme import Quantizer, Rounder, as_quantizer
from optuna_peppp.lowprecision.simulation.dynamic_scale import DynamicScale, all_finite
from optuna_peppp.lowprecision.simulation.loss_scale import scaled
from optuna_peppp.lowprecision.simulation.straight_through import rounded_together

OPTIMIZERS: Final[dict[str, Callable[..., Optimizer]]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
}
"""The class of each of ``OPTIMIZER_NAMES``."""


_FUNCTIONAL: Final[dict[type[Optimizer], tuple[str, ...]]] = {
    SGD: ("weight_decay", "momentum", "dampening", "nesterov", "maximize"),
    Adam: ("weight_decay", "eps", "amsgrad", "capturable", "maximize"),
    AdamW: ("weight_decay", "eps", "amsgrad", "capturable", "maximize"),
}
"""The settings that the functional form of an optimizer takes by their own names."""

_SQUARES: Final = ("exp_avg_sq", "max_exp_avg_sq")
"""States that are never negative."""


class LowPrecisionOptimizer(Optimizer):
    """Rounds what an optimizer reads and keeps: gradients, momentum and weight accumulators.

    A step rounds the gradients, lets the optimizer update, and rounds the updated weights and the
    state shaped like them: the order of QPyTorch's ``OptimLP``. The parameters of the module hold
    the accumulators, from the start; what the forward pass sees is rounded once more, by
    :class:`LowPrecisionModule`.

    It is a ``torch.optim.Optimizer`` with the parameter groups, state and defaults of the one
    that it wraps: schedulers, clipping, accumulation, checkpoints and ``GradScaler`` take it as
    any other. ``optimizer.scale(loss).backward()`` leaves gradients in ``.grad`` that no longer
    carry the loss scale; ``loss.backward()`` leaves the same, computed without one.

    With a dynamic loss scale, a step whose gradients hold an infinity or NaN changes nothing but
    the scale.

    Args:
        optimizer: ``torch.optim.SGD``, ``Adam`` or ``AdamW``.
        quantizer: Rounds its tensors, or the recipe that says how.

    Attributes:
        dynamic_scale: The loss scale where it is dynamic, else None.
        has_updated: Whether a step has updated the parameters, and so made the state.

    Raises:
        TypeError: Another optimizer.
        ValueError: ``quantizer`` is no :class:`Quantizer`.
    """

    dynamic_scale: DynamicScale | None
    has_updated: bool

    def __init__(self, optimizer: Optimizer, quantizer: Quantizer | Recipe) -> None:
        if not isinstance(optimizer, (SGD, Adam, AdamW)):
            raise TypeError(
                f"optimizer must be torch.optim.SGD, Adam or AdamW; got {type(optimizer).__name__}"
            )
        quantizer = as_quantizer(quantizer)
        # As an optimizer is restored: the constructor would make groups and state of its own.
        self.__setstate__({"_optimizer": optimizer, "_quantizer": quantizer})
        rule, parameters = quantizer.recipe.loss_scale, self._parameters()
        if isinstance(rule, DynamicLossScale):
            self.dynamic_scale = DynamicScale.of(rule, parameters[0].device)
        self._round_accumulators(parameters)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_optimizer": self._optimizer,
            "_quantizer": self._quantizer,
            "dynamic_scale": self.dynamic_scale,
            "has_updated": self.has_updated,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_optimizer" in state:
            self._optimizer: Optimizer = state["_optimizer"]
            self._quantizer: Quantizer = state["_quantizer"]
            self.dynamic_scale = state.get("dynamic_scale")
            self.has_updated = state.get("has_updated", False)
            super().__setstate__({})
        else:  # of load_state_dict
            self._optimizer.__setstate__(state)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameters and settings, those of the wrapped optimizer."""
        return self._optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self._optimizer.param_groups = groups

    @property
    def state(self) -> defaultdict[Tensor, Any]:
        """What is remembered of each parameter, by the wrapped optimizer."""
        return self._optimizer.state

    @state.setter
    def state(self, state: defaultdict[Tensor, Any]) -> None:
        self._optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """Settings of groups that do not name them, those of the wrapped optimizer."""
        return self._optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self._optimizer.defaults = defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters, which become accumulators, with settings of their own."""
        self._optimizer.add_param_group(param_group)
        self._round_accumulators(self.param_groups[-1]["params"])

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the loss scale: what to call ``backward`` on, whole and once.

        The backward pass takes the scale off again at every leaf that it reaches.
        """
        scale = self._quantizer.recipe.loss_scale
        if self.dynamic_scale is not None:
            scale = float(self.dynamic_scale.factor)
        assert isinstance(scale, float | int)  # dynamic ones have a state
        return loss if scale == 1 else scaled(loss, scale, self._trained)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters that have a gradient.

        Args:
            closure: Computes the gradients first, and returns the loss, which is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parameters = [p for p in self._parameters() if p.grad is not None]
        rounder = self._rounder(parameters)
        gradients = [_dense_gradient(p) for p in parameters]
        if self.dynamic_scale is not None:
            finite = all_finite(gradients)
            self.dynamic_scale.after(finite)
            if not finite:
                return loss
        _round_in_place(gradients, rounder, "weight_gradients")
        self._optimizer.step()
        _round_update(parameters, [self.state.get(p, {}) for p in parameters], rounder)
        self.has_updated = True
        return loss

    def settings(self) -> list[dict[str, Any]]:
        """What :meth:`groups` depends on: where it is another, so are they.

        The step size of SGD is left out, which they hold as a tensor.
        """
        left_out = ("lr",) if type(self._optimizer) is SGD else ()
        return [
            {name: value for name, value in group.items() if name not in left_out}
            | {
                "params": [
                    [id(p), *map(id, self.state.get(p, {}).values())] for p in group["params"]
                ]
            }
            for group in self.param_groups
        ]

    def groups(self) -> list[UpdateGroup]:
        """What :func:`update` reads and changes, once a first :meth:`step` has made the state.

        Raises:
            ValueError: That step found a parameter without a gradient.
        """
        groups = []
        for group in self.param_groups:
            settings = dict(group)
            parameters, learning_rate = settings.pop("params"), settings.pop("lr")
            if any(p.grad is None for p in parameters):
                raise ValueError("a parameter had no gradient")
            states = [
                {name: value for name, value in self.state.get(p, {}).items() if value is not None}
                for p in parameters
            ]
            kind = type(self._optimizer)
            if kind is SGD:  # the others do not take a tensor
                learning_rate = parameters[0].new_zeros((), dtype=torch.float32)
            groups.append(UpdateGroup(kind, list(parameters), states, learning_rate, settings))
        self.renew(groups)
        return groups

    def renew(self, groups: Sequence[UpdateGroup]) -> None:
        """Takes over the step sizes of SGD, which a schedule may have changed."""
        if type(self._optimizer) is SGD:
            for group, own in zip(groups, self.param_groups, strict=True):
                if isinstance(group.learning_rate, Tensor):
                    group.learning_rate.fill_(own["lr"])

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _trained(self) -> list[Tensor]:
        return [p for p in self._parameters() if p.requires_grad]

    @torch.no_grad()
    def _round_accumulators(self, parameters: Sequence[Tensor]) -> None:
        _round_in_place(parameters, self._rounder(parameters), "accumulators")

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
def update(
    groups: Sequence[UpdateGroup],
    gradients: Sequence[Tensor],
    rounder: Rounder,
    dynamic_scale: DynamicScale | None = None,
) -> None:
    """What :meth:`LowPrecisionOptimizer.step` does, as one function of tensors.

    Args:
        groups: The parameter groups; their tensors are changed in place.
        gradients: Of all their parameters in turn, with the loss scale; changed in place.
        rounder: Of this step.
        dynamic_scale: The loss scale, where it is dynamic.
    """
    for gradient in gradients:
        gradient.div_(factor_of(rounder, dynamic_scale))
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


def factor_of(rounder: Rounder, dynamic_scale: DynamicScale | None) -> Tensor | float:
    """The factor on the loss of a pass."""
    if dynamic_scale is not None:
        return dynamic_scale.factor
    factor = rounder.quantizer.recipe.loss_scale
    assert not isinstance(factor, DynamicLossScale)  # it has a state
    return factor


def _update(groups: Sequence[UpdateGroup], gradients: Sequence[Tensor], rounder: Rounder) -> None:
    _round_in_place(gradients, rounder, "weight_gradients")
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


def _dense_gradient(parameter: Tensor) -> Tensor:
    """The gradient of a parameter that has one; made dense, which changes no number."""
    gradient = parameter.grad
    assert gradient is not None
    if gradient.layout != torch.strided:  # of an embedding that asks for it
        gradient = parameter.grad = gradient.to_dense()
    return gradient


def _round_update(
    parameters: Sequence[Tensor], states: Sequence[dict[str, Tensor]], rounder: Rounder
) -> None:
    """Rounds updated weights and what the optimizer remembers of them, in place."""
    _round_in_place(parameters, rounder, "accumulators")
    recipe = rounder.quantizer.recipe
    remembered = [
        (name in _SQUARES, value)
        for state in states
        for name, value in state.items()
        if name != "step" and value is not None and recipe.rounds_state(value.numel())
    ]
    if rounder.squares is None:
        _round_in_place([value for _, value in remembered], rounder, "momentum")
        return
    for squares in (False, True):
        own = rounder.of_squares() if squares else rounder
        values = [value for kind, value in remembered if kind is squares]
        _round_in_place(values, own, "momentum", len(remembered) * squares)


def _round_in_place(
    tensors: Sequence[Tensor], rounder: Rounder, role: Role, start: int = 0
) -> None:
    # A complex number is two, each rounded by itself; counts and indices are no numbers to round.
    tensors = [torch.view_as_real(x) if x.is_complex() else x for x in tensors]
    tensors = [x for x in tensors if x.is_floating_point()]
    if tensors and rounder.rounds(role):
        copy_all(tensors, rounded_together(tensors, rounder, role, start))
