"""One training step: compiled where that can be, else eager, the reference."""

from __future__ import annotations

import warnings
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from optuna_peppp.lowprecision.compatibility import compiled_graphs, tree_flatten
from optuna_peppp.lowprecision.rounding.quantize import can_compile
from optuna_peppp.lowprecision.rounding.scheme import Quantizer
from optuna_peppp.lowprecision.simulation.optimizer import LowPrecisionOptimizer
from optuna_peppp.lowprecision.training.compiled_step import CompiledStep, Loss
from optuna_peppp.lowprecision.training.randomness import default_generators

_RECOMPILATIONS: Final = 2
"""How often one training may have its step compiled anew before it goes on eagerly."""


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
        self._compiled: CompiledStep | None = None
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
                self._compiled = CompiledStep(
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
