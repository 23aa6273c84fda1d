"""Optimizers whose state is kept in low precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from optuna_peppp.configurations.loss_scale import DynamicLossScale
from optuna_peppp.configurations.names import OptimizerName
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision.rounding.exemptions import exempt_parameters
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.rounding.scheme import Quantizer, as_quantizer
from optuna_peppp.lowprecision.simulation.dynamic_scale import DynamicScale, all_finite
from optuna_peppp.lowprecision.simulation.loss_scale import scaled
from optuna_peppp.lowprecision.simulation.update import (
    UpdateGroup,
    momentum_of,
    round_gradients,
    round_in_place,
    round_update,
)

OPTIMIZERS: Final[dict[OptimizerName, Callable[..., Optimizer]]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
}
"""The class of each of ``OPTIMIZER_NAMES``."""


_OWN: Final = "low_precision"
"""The entry of a state that no other optimizer has."""


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
        module: Whose parameters it updates: what is remembered of some may be exempt from the
            recipe, as that of embeddings is in practice. Without it, nothing is.

    Attributes:
        dynamic_scale: The loss scale where it is dynamic, else None.
        has_updated: Whether a step has updated the parameters, and so made the state.

    Raises:
        TypeError: Another optimizer.
        ValueError: ``quantizer`` is no :class:`Quantizer`, or the recipe names a module that is
            not there.
    """

    dynamic_scale: DynamicScale | None
    has_updated: bool

    def __init__(
        self,
        optimizer: Optimizer,
        quantizer: Quantizer | Recipe,
        module: nn.Module | None = None,
    ) -> None:
        if not isinstance(optimizer, (SGD, Adam, AdamW)):
            raise TypeError(
                f"optimizer must be torch.optim.SGD, Adam or AdamW; got {type(optimizer).__name__}"
            )
        quantizer = as_quantizer(quantizer)
        exempt = {} if module is None else exempt_parameters(module, quantizer.recipe)
        # As an optimizer is restored: the constructor would make groups and state of its own.
        self.__setstate__({"_optimizer": optimizer, "_quantizer": quantizer, "_exempt": exempt})
        rule, parameters = quantizer.recipe.loss_scale, self.parameters()
        if isinstance(rule, DynamicLossScale):
            self.dynamic_scale = DynamicScale.of(rule, parameters[0].device)
        self._round_accumulators(parameters)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_optimizer": self._optimizer,
            "_quantizer": self._quantizer,
            "_exempt": self._exempt,
            "dynamic_scale": self.dynamic_scale,
            "has_updated": self.has_updated,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_optimizer" in state:
            self._optimizer: Optimizer = state["_optimizer"]
            self._quantizer: Quantizer = state["_quantizer"]
            self._exempt: dict[Tensor, int] = state.get("_exempt", {})
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

    def state_dict(self) -> dict[str, Any]:
        """As of the wrapped optimizer; what low precision adds to it is under "low_precision"."""
        found = super().state_dict()
        own: dict[str, Tensor] = {}
        if self.dynamic_scale is not None:
            own |= {"factor": self.dynamic_scale.factor, "streak": self.dynamic_scale.streak}
        if self._quantizer.generator is not None:
            own["generator"] = self._quantizer.generator.get_state()
        return found | ({_OWN: own} if own else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where a :meth:`state_dict` was taken, or one of the wrapped optimizer."""
        super().load_state_dict(state_dict)
        own = state_dict.get(_OWN, {})
        if self.dynamic_scale is not None and "factor" in own:
            self.dynamic_scale.factor.copy_(own["factor"])
            self.dynamic_scale.streak.copy_(own["streak"])
        if self._quantizer.generator is not None and "generator" in own:
            self._quantizer.generator.set_state(own["generator"].cpu())

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
        parameters = [p for p in self.parameters() if p.grad is not None]
        rounder = self._rounder(parameters)
        gradients = [_dense_gradient(p) for p in parameters]
        round_gradients(gradients, rounder, self.dynamic_scale)
        if self.dynamic_scale is not None:
            # What has become infinite as it was rounded counts.
            finite = all_finite(gradients)
            self.dynamic_scale.after(finite)
            if not finite:
                return loss
        self._optimizer.step()
        states = [self.state.get(p, {}) for p in parameters]
        round_update(parameters, states, [self._exempt.get(p) for p in parameters], rounder)
        self.has_updated = True
        return loss

    def settings(self) -> list[dict[str, Any]]:
        """What :meth:`groups` depends on: where it is another, so are they.

        What a schedule changes, step size and momentum, is left out, which they hold as tensors.
        """
        return [
            {
                name: value
                for name, value in group.items()
                if name not in ("lr", "momentum", "betas")
            }
            | {"has_momentum": bool(momentum_of(group)), "betas": group.get("betas", ())[1:]}
            | {
                "params": [
                    [id(p), *map(id, self.state.get(p, {}).values())] for p in group["params"]
                ]
            }
            for group in self.param_groups
        ]

    def groups(self) -> list[UpdateGroup]:
        """What the compiled update reads and changes, once a :meth:`step` has made the state.

        Parameters that had no gradient in that step are none of it.
        """
        groups = []
        for group in self.param_groups:
            settings = dict(group)
            everything, _ = settings.pop("params"), settings.pop("lr")
            parameters = [p for p in everything if p.grad is not None]
            states = [
                {name: value for name, value in self.state.get(p, {}).items() if value is not None}
                for p in parameters
            ]
            exempt = [self._exempt.get(p) for p in parameters]
            rate = everything[0].new_zeros((), dtype=torch.float32)
            momentum = rate.clone()
            kind = type(self._optimizer)
            groups.append(UpdateGroup(kind, parameters, states, exempt, rate, momentum, settings))
        self.renew(groups)
        return groups

    def renew(self, groups: Sequence[UpdateGroup]) -> None:
        """Takes over what a schedule may have changed."""
        for group, own in zip(groups, self.param_groups, strict=True):
            group.learning_rate.fill_(own["lr"])
            group.momentum.fill_(momentum_of(own))

    def parameters(self) -> list[Tensor]:
        """All parameters, group by group."""
        return [p for group in self.param_groups for p in group["params"]]

    def _trained(self) -> list[Tensor]:
        return [p for p in self.parameters() if p.requires_grad]

    @torch.no_grad()
    def _round_accumulators(self, parameters: Sequence[Tensor]) -> None:
        round_in_place(parameters, self._rounder(parameters), "accumulators")

    def _rounder(self, parameters: Sequence[Tensor]) -> Rounder:
        device = parameters[0].device if parameters else torch.device("cpu")
        return self._quantizer.rounder(device)


def _dense_gradient(parameter: Tensor) -> Tensor:
    """The gradient of a parameter that has one; made dense, which changes no number."""
    gradient = parameter.grad
    assert gradient is not None
    if gradient.layout != torch.strided:  # of an embedding that asks for it
        gradient = parameter.grad = gradient.to_dense()
    return gradient
