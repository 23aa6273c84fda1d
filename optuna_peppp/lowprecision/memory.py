"""Memory of a training, computed from its network and never measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models.resnet import BasicBlock, ResNet

from optuna_peppp.formats import FloatFormat, Precision

if TYPE_CHECKING:
    from optuna_peppp.space import ConfigurationSpace

Accounting = Literal["saved-tensors", "paper"]

_STATES: Final = {"sgd": 1, "adam": 2, "adamw": 2}
"""Numbers that each optimizer remembers of every weight."""


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Bytes that one training needs, part by part (paper, Section 3.1 and Figure 5).

    Attributes:
        weights: Weights in Format A.
        activations: What the forward pass keeps for the backward pass.
        optimizer: Weight gradients, momentum and weight accumulators in Format B.
    """

    weights: int
    activations: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.optimizer


def training_memory(
    model: nn.Module,
    input_shape: tuple[int, ...],
    batch_size: int,
    precision: Precision,
    accounting: Accounting = "saved-tensors",
    *,
    optimizer: str = "sgd",
) -> MemoryUsage:
    """Memory of training a network at one precision.

    Nothing is computed or allocated: the network runs once on tensors without data.

    Args:
        model: Any module from one batch of inputs to logits; it is left unchanged.
        input_shape: Shape of one input, without the batch.
        batch_size: Inputs a step.
        precision: The two formats.
        accounting: ``"saved-tensors"``: the unquantized network's forward pass runs once and
            every float it saves for the backward pass counts once, in Format A. ``"paper"``: the
            accounting of the paper's authors, for torchvision's ResNets of basic blocks with the
            stem for small images; the output of every module of their quantized network
            counts twice, for itself and its gradient.
        optimizer: ``"sgd"`` with momentum, ``"adam"`` or ``"adamw"``; ``"paper"`` knows SGD only.

    Raises:
        ValueError: ``accounting`` or ``optimizer`` is unknown, or the network is not one that
            ``"paper"`` knows.
    """
    return _counts(model, input_shape, batch_size, accounting, optimizer).at(precision)


def memory_vector(
    space: ConfigurationSpace,
    model: nn.Module,
    input_shape: tuple[int, ...],
    batch_size: int,
    accounting: Accounting = "saved-tensors",
    *,
    optimizer: str = "sgd",
) -> NDArray[np.float64]:
    """Memory of training a network at every configuration of a space, in bytes, shape (d,).

    The arguments and errors are those of :func:`training_memory`; the space must tune
    ``format_a`` and ``format_b``.
    """
    counts = _counts(model, input_shape, batch_size, accounting, optimizer)
    return np.array([counts.at(space.precision(j)).total for j in range(len(space))], dtype=float)


@dataclass(frozen=True, slots=True)
class _Counts:
    """Numbers kept in Format A and in Format B by each part of a training."""

    weights: tuple[int, int]
    activations: tuple[int, int]
    optimizer: tuple[int, int]

    def at(self, precision: Precision) -> MemoryUsage:
        return MemoryUsage(
            *(
                _bytes(part, precision.format_a, precision.format_b)
                for part in (self.weights, self.activations, self.optimizer)
            )
        )


def _bytes(numbers: tuple[int, int], format_a: FloatFormat, format_b: FloatFormat) -> int:
    return math.ceil((numbers[0] * format_a.bits + numbers[1] * format_b.bits) / 8)


def _counts(
    model: nn.Module,
    input_shape: tuple[int, ...],
    batch_size: int,
    accounting: Accounting,
    optimizer: str,
) -> _Counts:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    if optimizer not in _STATES:
        raise ValueError(f"optimizer must be one of {', '.join(_STATES)}; got {optimizer!r}")
    if accounting == "paper":
        if optimizer != "sgd":
            raise ValueError(f"accounting 'paper' knows optimizer 'sgd' only; got {optimizer!r}")
        return _paper(model, input_shape, batch_size)
    if accounting != "saved-tensors":
        raise ValueError(f"accounting must be 'saved-tensors' or 'paper'; got {accounting!r}")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return _Counts(
        weights=(sum(p.numel() for p in model.parameters()), 0),
        activations=(_saved_floats(model, (batch_size, *input_shape)), 0),
        # Gradients, accumulators and what the optimizer remembers.
        optimizer=(0, trained * (2 + _STATES[optimizer])),
    )


def _saved_floats(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Floats that a forward pass saves for the backward pass, parameters and buffers aside.

    A storage counts once, however many saved tensors are views of it.
    """
    tensors = _without_data(model)
    own = {_storage(tensor) for tensor in tensors.values()}
    # Keeping the saved tensors alive keeps the identity of each storage its own.
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() and _storage(tensor) not in own:
            saved[_storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        output = _forward(model, tensors, shape)
    del output
    return sum(t.untyped_storage().nbytes() // t.element_size() for t in saved.values())


def _paper(model: nn.Module, input_shape: tuple[int, ...], batch_size: int) -> _Counts:
    """The accounting of the paper's authors, as reconstructed from their published matrix.

    An image costs twice, for values and gradients: 4 tensors of the stem's output size, 13 of
    each basic block's (15 where it downsamples), the pooled features, twice the logits and the
    input; in Format B, the input and the logits once more. Weights: once in A, twice in B.
    """
    if (
        not isinstance(model, ResNet)
        or not isinstance(model.maxpool, nn.Identity)
        or not all(isinstance(block, BasicBlock) for stage in _stages(model) for block in stage)
    ):
        raise ValueError(
            "accounting 'paper' knows torchvision's ResNets of basic blocks without max pooling "
            "(resnet18 and resnet34 for images up to 64 pixels); use 'saved-tensors' for "
            f"{type(model).__name__}"
        )
    sizes: dict[nn.Module, int] = {}

    def measure(module: nn.Module, inputs: object, output: Tensor) -> None:
        sizes[module] = output.numel()

    handles = [module.register_forward_hook(measure) for module in model.modules()]
    try:
        _forward(model, _without_data(model), (1, *input_shape))
    finally:
        for handle in handles:
            handle.remove()
    image = math.prod(input_shape)
    logits = sizes[model.fc]
    activations = 4 * sizes[model.conv1] + sizes[model.avgpool] + 2 * logits + image
    for stage in _stages(model):
        for block in stage:
            activations += (13 if block.downsample is None else 15) * sizes[block]
    parameters = sum(p.numel() for p in model.parameters())
    return _Counts(
        weights=(parameters, 0),
        activations=(2 * batch_size * activations, batch_size * (image + 2 * logits)),
        optimizer=(0, 2 * parameters),
    )


def _stages(model: Any) -> tuple[nn.Sequential, ...]:
    return model.layer1, model.layer2, model.layer3, model.layer4


def _without_data(model: nn.Module) -> dict[str, Tensor]:
    """Stand-ins without memory for the parameters and buffers of a module."""
    tensors = {
        name: torch.empty_like(p, device="meta", requires_grad=p.requires_grad)
        for name, p in model.named_parameters()
    }
    for name, buffer in model.named_buffers():
        tensors[name] = torch.empty_like(buffer, device="meta")
    return tensors


def _forward(model: nn.Module, tensors: dict[str, Tensor], shape: tuple[int, ...]) -> Any:
    """Runs the network in training mode on inputs without data, and leaves it as it was."""
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        with torch.enable_grad():
            return functional_call(model, tensors, torch.empty(shape, device="meta"))
    finally:
        for module, mode in modes.items():
            module.training = mode


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
