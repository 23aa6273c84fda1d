"""Optimizers whose state is kept in low precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from optuna_peppp.lowprecision.modules import rounded_together
from optuna_peppp.lowprecision.scheme import Quantizer, Role

OPTIMIZERS: Final[dict[str, Callable[..., Optimizer]]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
"""The supported optimizers by name."""


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
        self._round_in_place(self._parameters(), "accumulators")

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the loss scale: what to call ``backward`` on."""
        return loss * self._quantizer.scheme.loss_scale

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self._optimizer.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        """Updates the parameters that have a gradient."""
        parameters = [p for p in self._parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient in gradients:
            gradient.div_(self._quantizer.scheme.loss_scale)
        self._round_in_place(gradients, "weight_gradients")
        self._optimizer.step()
        self._round_in_place(parameters, "accumulators")
        states = [
            state
            for p in parameters
            for name, state in self._optimizer.state[p].items()
            if name != "step" and state is not None
        ]
        self._round_in_place(states, "momentum")

    def _parameters(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    @torch.no_grad()
    def _round_in_place(self, tensors: list[Tensor], role: Role) -> None:
        if tensors and self._quantizer.format(role) is not None:
            torch._foreach_copy_(tensors, rounded_together(tensors, self._quantizer, role))
