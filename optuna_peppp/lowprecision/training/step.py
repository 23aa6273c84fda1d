"""One training step: the reference, and the same compiled once for all configurations."""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from optuna_peppp.lowprecision.compatibility import (
    compiled_graphs,
    compiler_settings,
    copy_all,
    tree_flatten,
    tree_unflatten,
)
from optuna_peppp.lowprecision.rounding.quantize import can_compile
from optuna_peppp.lowprecision.rounding.scheme import Quantizer, Rounder
from optuna_peppp.lowprecision.simulation.dynamic_scale import DynamicScale
from optuna_peppp.lowprecision.simulation.keeping import abandoned_where_it_fails
from optuna_peppp.lowprecision.simulation.modules import LowPrecisionModule
from optuna_peppp.lowprecision.simulation.optimizer import LowPrecisionOptimizer
from optuna_peppp.lowprecision.simulation.update import UpdateGroup, factor_of, update
from optuna_peppp.lowprecision.training.randomness import default_generators

_SETTINGS: Final[dict[str, Any]] = {
    # Forward and backward pass become one graph.
    "trace_autograd_ops": True,
    # One graph for each network, image size, scheme and optimizer that a process trains.
    "recompile_limit": 64,
}
"""Settings of the compiler's front end for the compiled step."""

_OPTIONS: Final[dict[str, Any]] = {
    # Dropout draws what it draws eagerly.
    "fallback_random": True,
    # What several kernels read is computed once where it takes more operations than this: a
    # rounding to nearest takes 34, and the default on the CPU repeats it for every reader.
    "realize_opcount_threshold": 33,
}
"""Options of Inductor for the compiled step."""

_WARM_UP: Final = 3
"""Compiled steps on CUDA before the kernels are recorded."""

_RECOMPILATIONS: Final = 2
"""How often one training may have its step compiled anew before it goes on eagerly."""


Loss = Callable[..., Tensor]
"""The loss of a batch: of a function that calls the network, and of what the batch holds."""


class TrainingStep:
    """Trains a network on one batch at a time.

    The first step of a training that updates is eager, and so is the one on a batch of other
    shapes, the last of an epoch. All others are one compiled graph of forward pass, backward pass
    and update. It takes what a configuration chooses as tensors, and so serves all whose numbers
    share scales in the same way; on CUDA its kernels are recorded and replayed. Where the graph
    cannot be made or fails, nothing of that step is left, and the training goes on eagerly, as it
    does where every step would be another graph.

    Args:
        network: To train, in low precision where it is a :class:`LowPrecisionModule`.
        optimizer: Of its parameters.
        loss: Of a batch.
        quantizer: Of the network and the optimizer.
        max_norm: Norm of all gradients together beyond which they are scaled down, as by
            ``torch.nn.utils.clip_grad_norm_``; None leaves them.

    Attributes:
        network, optimizer: Those given.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: LowPrecisionOptimizer,
        loss: Loss,
        quantizer: Quantizer,
        max_norm: float | None = None,
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self._loss = loss
        self._quantizer = quantizer
        self._max_norm = max_norm
        self._compiles = quantizer.backend == "compiled" and can_compile()
        self._compiled: _CompiledStep | None = None
        self._recompilations = 0
        device = next(iter(optimizer.parameters())).device
        self._found = torch.zeros((), device=device)
        self._generators = default_generators(device)
        if quantizer.generator is not None:
            self._generators.append(quantizer.generator)
        self._shapes: object = None
        self._trained: object = None

    def __call__(self, *batch: Any) -> Tensor:
        """Trains on a batch, of tensors in containers of any kind.

        Returns:
            The loss before the update, a float32 scalar on the device.

        Raises:
            ValueError: The loss is not one number.
        """
        shapes = _shapes(batch)
        compiles = self._compiles and shapes == self._shapes and self._trained == self._flags()
        if compiles and self._run_compiled(batch):
            return self._found.clone()
        self.optimizer.zero_grad()
        loss = _one_number(self._loss(self.network, *batch))
        torch.autograd.backward(self.optimizer.scale(loss))
        if self._max_norm is not None:
            clip_grad_norm_(self.optimizer.parameters(), self._max_norm)
        self.optimizer.step()
        if self.optimizer.has_updated:
            self._shapes = self._shapes or shapes
            if self._trained != self._flags():
                self._trained, self._compiled = self._flags(), None
        return loss.detach().to(torch.float32, copy=True)

    def renew(self) -> None:
        """Has recorded kernels recorded anew.

        They run no Python: what a caller changed in the network since, but for which modules
        train and which parameters are frozen, they would not see.
        """
        if self._compiled is not None:
            self._compiled.forget_recording()

    def _flags(self) -> object:
        """Which modules train, and which parameters: another step where they are others."""
        training = tuple(module.training for module in self.network.modules())
        return training, tuple(p.requires_grad for p in self.optimizer.parameters())

    def _run_compiled(self, batch: tuple[Any, ...]) -> bool:
        """Whether the compiled step was taken; where it cannot be, tells why, once."""
        states = [(generator, generator.get_state()) for generator in self._generators]
        graphs = compiled_graphs()
        try:
            recompiles = self._compiled is not None
            if self._compiled is None or not self._compiled.fits(self.optimizer):
                self._compiled = _CompiledStep(
                    self.network,
                    self.optimizer,
                    self._quantizer,
                    self._loss,
                    self._max_norm,
                    batch,
                    self._found,
                )
            self._compiled(batch)
        except Exception as error:  # what cannot be compiled raises whatever it pleases
            for generator, state in states:
                generator.set_state(state)
            self._give_up((str(error).strip() or type(error).__name__).splitlines()[0])
            return False
        self._recompilations += recompiles and compiled_graphs() != graphs
        if self._recompilations == _RECOMPILATIONS:
            self._give_up("what the network or a schedule changes makes it another one each time")
        return True

    def _give_up(self, reason: str) -> None:
        self._compiles, self._compiled = False, None
        warnings.warn(
            f"PyTorch {torch.__version__} cannot compile this training step ({reason}); "
            "training eagerly, which is slower",
            stacklevel=4,
        )


def _shapes(batch: tuple[Any, ...]) -> object:
    """What of a batch is part of a graph: all but the numbers in its tensors."""
    leaves, structure = tree_flatten(batch)
    return structure, [
        (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf
        for leaf in leaves
    ]


def _one_number(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss must return one number, a tensor; got {got}: take its mean")
    return loss.reshape(())


class _CompiledStep:
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
