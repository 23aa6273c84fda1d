"""The compiled training step, one graph for all configurations, and the tensors that it changes."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Final

import torch
from torch import Tensor, nn

from optuna_peppp.lowprecision.compatibility import (
    compiler_settings,
    copy_all,
    tree_flatten,
    tree_unflatten,
)
from optuna_peppp.lowprecision.rounding.compiling import AS_EAGERLY
from optuna_peppp.lowprecision.rounding.rounder import Rounder
from optuna_peppp.lowprecision.rounding.scheme import Quantizer
from optuna_peppp.lowprecision.simulation.dynamic_scale import DynamicScale
from optuna_peppp.lowprecision.simulation.keeping import abandoned_where_it_fails
from optuna_peppp.lowprecision.simulation.modules import LowPrecisionModule
from optuna_peppp.lowprecision.simulation.optimizer import LowPrecisionOptimizer
from optuna_peppp.lowprecision.simulation.update import UpdateGroup, factor_of, update

Loss = Callable[..., Tensor]
"""The loss of a batch: of a function that calls the network, and of what the batch holds."""

_SETTINGS: Final[dict[str, Any]] = {
    # Forward and backward pass become one graph.
    "trace_autograd_ops": True,
    # One graph for each network, image size, scheme and optimizer that a process trains.
    "recompile_limit": 64,
}
"""Settings of the compiler's front end for the compiled step."""

_OPTIONS: Final[dict[str, Any]] = AS_EAGERLY | {
    # Dropout draws what it draws eagerly.
    "fallback_random": True,
    # What several kernels read is computed once where it takes more operations than this, as every
    # rounding does; the default on the CPU repeats it for every reader.
    "realize_opcount_threshold": 30,
}
"""Options of Inductor for the compiled step."""

_WARM_UP: Final = 3
"""Compiled steps on CUDA before the kernels are recorded."""


class CompiledStep:
    """The compiled step of one training, with the tensors that it changes in place."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: LowPrecisionOptimizer,
        quantizer: Quantizer,
        loss: Loss,
        max_norm: float | None,
        batch: tuple[Any, ...],
        found: Tensor,
    ) -> None:
        if isinstance(network, LowPrecisionModule) and network.outputs.container_in_place:
            raise ValueError("a module changes in place what a submodule of it returned")
        self._network = network
        self._settings, self._groups = optimizer.settings(), optimizer.groups()
        self._rounders = quantizer.rounder(found.device), quantizer.rounder(found.device)
        leaves, structure = tree_flatten(batch)
        leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._inputs = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        scale = optimizer.dynamic_scale
        self._arguments = (
            *(network, self._groups, *self._rounders, scale, loss, max_norm),
            *(tree_unflatten(leaves, structure), found),
        )
        changed = [s for group in self._groups for state in group.states for s in state.values()]
        changed += [] if scale is None else [scale.factor, scale.streak]
        self._backup = _Backup([*network.parameters(), *network.buffers(), *changed])
        self._on_cuda = found.is_cuda
        self._calls = 0
        self._recorded: torch.cuda.CUDAGraph | None = None

    def fits(self, optimizer: LowPrecisionOptimizer) -> bool:
        """Whether the optimizer still has the settings that are part of the graph."""
        if optimizer.settings() != self._settings:
            return False
        optimizer.renew(self._groups)
        return True

    def forget_recording(self) -> None:
        """Runs as compiled at the next call, and records that."""
        self._recorded = None
        self._calls = min(self._calls, _WARM_UP - 1)

    def __call__(self, batch: tuple[Any, ...]) -> None:
        """Takes the step, or raises and leaves the training as it was."""
        if self._calls:
            for rounder in self._rounders:
                rounder.renew()
        tensors = [leaf for leaf in tree_flatten(batch)[0] if isinstance(leaf, Tensor)]
        for place, value in zip(self._inputs, tensors, strict=True):
            place.copy_(value)
        self._calls += 1
        if self._recorded is not None:
            self._recorded.replay()
            return
        try:
            python = random.getstate()
            self._run()
            # What is replayed runs no Python, and would draw the same number again.
            if self._on_cuda and self._calls == _WARM_UP and random.getstate() == python:
                recorded = torch.cuda.CUDAGraph()
                with torch.cuda.graph(recorded):
                    self._run()
                self._recorded = recorded
        except Exception:
            self._backup.restore()
            raise

    def _run(self) -> None:
        network = self._network
        self._backup.save()
        with ExitStack() as stack:
            if isinstance(network, LowPrecisionModule):
                stack.enter_context(network.hooked())
                stack.enter_context(abandoned_where_it_fails())
            stack.enter_context(compiler_settings(**_SETTINGS))
            _compiled()(*self._arguments)


class _Backup:
    """Copies of tensors that a step changes, as they were before it."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        # One kernel copies all tensors of a kind.
        kinds: dict[Any, dict[int, Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), {})[id(tensor)] = tensor.detach()
        self._pairs = [
            (list(kind.values()), [tensor.clone() for tensor in kind.values()])
            for kind in kinds.values()
        ]

    def save(self) -> None:
        for tensors, copies in self._pairs:
            copy_all(copies, tensors)

    def restore(self) -> None:
        for tensors, copies in self._pairs:
            copy_all(tensors, copies)


@functools.cache
def _compiled() -> Callable[..., None]:
    return torch.compile(_training_step, dynamic=False, fullgraph=True, options=_OPTIONS)


def _training_step(
    network: nn.Module,
    groups: Sequence[UpdateGroup],
    of_passes: Rounder,
    of_update: Rounder,
    dynamic_scale: DynamicScale | None,
    loss: Loss,
    max_norm: float | None,
    batch: tuple[Any, ...],
    found: Tensor,
) -> None:
    """Forward pass, backward pass and update; writes the loss to ``found``."""

    def forward(*inputs: Any, **named_inputs: Any) -> Any:
        if isinstance(network, LowPrecisionModule):
            return network.compute(of_passes, *inputs, **named_inputs)
        return network(*inputs, **named_inputs)

    value = loss(forward, *batch).reshape(())
    parameters = [parameter for group in groups for parameter in group.parameters]
    gradients = torch.autograd.grad(value * factor_of(of_update, dynamic_scale), parameters)
    update(groups, gradients, of_update, dynamic_scale, max_norm)
    found.copy_(value.detach())
