"""Memory of a training, computed from its network and never measured."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.names import (
    ACCOUNTINGS,
    OPTIMIZER_NAMES,
    SITES,
    Accounting,
    OptimizerName,
    Sites,
)
from optuna_peppp.configurations.precision import Precision, check_precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.configurations.sites import Groups
from optuna_peppp.lowprecision.memory.saved_tensors import floats_of, forward_pass
from optuna_peppp.lowprecision.memory.usage import Counts, MemoryUsage, Numbers
from optuna_peppp.lowprecision.rounding.exemptions import kinds_of_modules
from optuna_peppp.lowprecision.rounding.scheme import DEFAULT_SCHEME, RoundingScheme
from optuna_peppp.lowprecision.simulation.groups import groups

_STATES: Final[dict[str, int]] = {"sgd": 1, "adam": 2, "adamw": 2}
"""Numbers that each optimizer remembers of every weight."""


def training_memory(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    batch_size: int | None = None,
    precision: Precision | Recipe | None = None,
    accounting: Accounting = "saved-tensors",
    *,
    inputs: Any = None,
    optimizer: OptimizerName = "sgd",
    scheme: RoundingScheme = DEFAULT_SCHEME,
) -> MemoryUsage:
    """Memory of training a network at one precision.

    Nothing is computed or allocated: a copy of the network runs once on tensors without data,
    as it would run on the device that it lies on (on the CPU, if it lies on ``meta``). Only a
    network that asks for the values of tensors runs once for real, on the CPU, with a warning.

    Args:
        model: Any module; it is left unchanged. Wrappers for several devices and compiled
            modules count as what they wrap: on one device, eager.
        input_shape: Shape of one input, without the batch. The network takes one tensor of
            floats in the dtype of its weights or, if it refuses those, of integers.
        batch_size: Inputs a step.
        precision: The two formats, or a recipe.
        accounting: ``"saved-tensors"``: the unquantized network's forward pass runs once and
            every float it saves for the backward pass counts once, as an activation, also what
            functions between modules save, which is rounded where operators are sites only. There
            attention saves its scores and probabilities, else what its kernel saves.
            ``"paper"``: the accounting of the paper's authors, for torchvision's ResNets of basic
            blocks with the stem for small images; the output of every module of their quantized
            network counts twice, for itself and its gradient. ``"assignment"``: that of precision
            assignments (Lee et al., TMLR 2023): every site and its gradient, every weight and its
            gradient count once, and no optimizer state.
        inputs: One batch of example inputs, in place of ``input_shape`` and ``batch_size``: any
            structure of tensors of any dtype; only their shapes count, unless the network asks
            for values. The network is called as ``model(*inputs)`` with a tuple and as
            ``model(**inputs)`` with a mapping where its ``forward`` takes these arguments, else
            as ``model(inputs)``.
        optimizer: ``"sgd"`` with momentum, ``"adam"`` or ``"adamw"``; ``"paper"`` knows SGD only.
        scheme: Which of two formats each role has, 32 bits where that is none; a recipe says that
            itself.

    Raises:
        ValueError: ``accounting`` or ``optimizer`` is unknown, sizes are no positive integers,
            neither or both of sizes and ``inputs`` are given, the network is not one that
            ``"paper"`` knows, or it asks for values and has none. What the network itself
            raises on these inputs is raised as it is.

    Warns:
        UserWarning: The network asked for values of tensors (a branch on a sum, a mask that
            selects): one forward pass of the whole batch ran on the CPU.
    """
    if not isinstance(precision, Recipe):
        check_precision(precision)
    sites = precision.sites if isinstance(precision, Recipe) else "modules"
    counts = count(model, input_shape, batch_size, accounting, inputs, optimizer, sites)
    return counts.at(precision, scheme)


def count(
    model: nn.Module,
    input_shape: Sequence[int] | None,
    batch_size: int | None,
    accounting: Accounting = "saved-tensors",
    inputs: Any = None,
    optimizer: OptimizerName = "sgd",
    sites: Sites = "modules",
) -> Counts:
    """What :func:`training_memory` counts, whatever the precision."""
    check_choice("accounting", accounting, ACCOUNTINGS)
    check_choice("optimizer", optimizer, OPTIMIZER_NAMES)
    check_choice("sites", sites, SITES)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module; got {model!r}")
    if inputs is None:
        inputs = _without_data(model, input_shape, batch_size)
    elif input_shape is not None or batch_size is not None:
        raise ValueError(
            "inputs must come alone, as they have a shape and a batch; got input_shape="
            f"{input_shape!r} and batch_size={batch_size!r} too"
        )
    if accounting == "paper":
        if optimizer != "sgd":
            raise ValueError(f"accounting 'paper' knows optimizer 'sgd' only; got {optimizer!r}")
        if sites != "modules":
            raise ValueError(f"accounting 'paper' knows sites 'modules' only; got {sites!r}")
        return _paper(model, inputs)
    written_out = sites == "operators"
    try:
        ran = forward_pass(model, inputs, written_out=written_out)
    except Exception as error:
        if input_shape is None:
            raise
        inputs = inputs.long()
        try:  # what takes no floats may take the numbers of words
            ran = forward_pass(model, inputs, written_out=written_out)
        except Exception:
            raise error from None
    find = functools.cache(lambda: groups(model, inputs, sites))
    if accounting == "assignment":
        return _assignment(model, find)
    parameters = [
        (name, name.rpartition(".")[0], floats_of(p), p.requires_grad)
        for name, p in ran.network.named_parameters()
    ]
    weights = [Numbers("weights", n, module, parameter=name) for name, module, n, _ in parameters]
    trained = [(module, number) for _, module, number, is_trained in parameters if is_trained]
    return Counts(
        weights,
        [Numbers("activations", n, origin.module, origin.call) for origin, n in ran.saved.items()],
        [
            *(Numbers("weight_gradients", number) for _, number in trained),
            *(Numbers("momentum", n, module) for module, n in trained * _STATES[optimizer]),
            *(Numbers("accumulators", number) for _, number in trained),
        ],
        kinds_of_modules(ran.network),
        find,
    )


def _assignment(model: nn.Module, find: Callable[[], Groups]) -> Counts:
    """Every tensor of a step, and its gradient."""
    found = find()
    sites = [(site.numbers, site.call[0], site.call) for site in found.sites]
    parameters = [(parameter.numbers, name) for name, parameter in found.parameters.items()]
    return Counts(
        [Numbers("weights", n, name.rpartition(".")[0], parameter=name) for n, name in parameters],
        [
            *(Numbers("activations", n, module, call) for n, module, call in sites),
            *(Numbers("activation_gradients", n, module, call) for n, module, call in sites),
        ],
        [Numbers("weight_gradients", n) for n, _ in parameters],
        kinds_of_modules(model),
        find,
    )


def _without_data(
    model: nn.Module, input_shape: Sequence[int] | None, batch_size: int | None
) -> Tensor:
    """One batch of floats in the dtype of the network's weights."""
    if input_shape is None or batch_size is None:
        raise ValueError(
            "input_shape and batch_size, or inputs, must be given; got input_shape="
            f"{input_shape!r}, batch_size={batch_size!r} and no inputs"
        )
    if not isinstance(input_shape, Sequence) or not all(map(_is_size, input_shape)):
        raise ValueError(
            "input_shape must be the sizes of one input, integers of at least 1 without the "
            f"batch, such as (3, 32, 32); got {input_shape!r}"
        )
    if not _is_size(batch_size):
        expected = "at least 1" if _is_integer(batch_size) else "an integer"
        raise ValueError(f"batch_size must be {expected}; got {batch_size!r}")
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    dtype = next(floats, torch.get_default_dtype())
    return torch.empty((batch_size, *input_shape), dtype=dtype, device="meta")


def _is_size(value: object) -> bool:
    return _is_integer(value) and value >= 1


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _paper(model: nn.Module, images: Any) -> Counts:
    """The accounting of the paper's authors, as reconstructed from their published matrix.

    An image costs twice, for values and gradients: 4 tensors of the stem's output size, 13 of
    each basic block's (15 where it downsamples), the pooled features, twice the logits and the
    input; in Format B, the input and the logits once more. Weights: once in A, twice in B, which
    are the momentum and the accumulators: in the authors' code, gradients have Format A.
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
    if not isinstance(images, Tensor) or images.ndim != 4:
        raise ValueError(
            "accounting 'paper' takes one batch of images, a tensor of four dimensions; got "
            f"{f'shape {tuple(images.shape)}' if isinstance(images, Tensor) else type(images)}"
        )
    batch_size = len(images)
    sizes: dict[nn.Module, int] = {}

    def measure(module: nn.Module, inputs: object, output: Tensor) -> None:
        sizes[module] = output.numel() // batch_size

    network: Any = forward_pass(model, images, measure).network
    image = math.prod(images.shape[1:])
    logits = sizes[network.fc]
    activations = 4 * sizes[network.conv1] + sizes[network.avgpool] + 2 * logits + image
    for stage in _stages(network):
        for block in stage:
            activations += (13 if block.downsample is None else 15) * sizes[block]
    parameters = sum(p.numel() for p in model.parameters())
    return Counts(
        [Numbers("weights", parameters)],
        [
            Numbers("activations", batch_size * activations),
            Numbers("activation_gradients", batch_size * activations),
            Numbers("input", batch_size * image),
            Numbers("logits", batch_size * 2 * logits),
        ],
        [Numbers("momentum", parameters), Numbers("accumulators", parameters)],
    )


def _stages(model: Any) -> tuple[nn.Sequential, ...]:
    return model.layer1, model.layer2, model.layer3, model.layer4
