"""Low precision in a loop of one's own: a network and an optimizer, or a whole compiled step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optuna_peppp.configurations.names import Backend
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision.rounding.scheme import DEFAULT_SCHEME, Quantizer
from optuna_peppp.lowprecision.simulation.modules import LowPrecisionModule
from optuna_peppp.lowprecision.simulation.optimizer import LowPrecisionOptimizer
from optuna_peppp.lowprecision.training.step import TrainingStep


def low_precision(
    model: nn.Module,
    optimizer: Optimizer,
    recipe: Recipe | Precision | str,
    *,
    seed: int | None = None,
    packed: bool = False,
) -> tuple[LowPrecisionModule, LowPrecisionOptimizer]:
    """A network that computes, and an optimizer that updates, in simulated low precision.

    All else in a loop stays what it is: the network is called as ``model`` is, and the optimizer is
    a ``torch.optim.Optimizer`` with the groups and the state of the one given. Where the recipe has
    a loss scale, ``optimizer.scale(loss).backward()`` takes the place of ``loss.backward()``;
    gradients do not carry it afterwards.

    Args:
        model: Any module, on its device. Its parameters are those that are trained; it computes
            in float32 by itself as before.
        optimizer: ``torch.optim.SGD``, ``Adam`` or ``AdamW`` of its parameters, before their first
            update.
        recipe: Which tensor is in which format; the name of one, as of :meth:`Recipe.named`; or
            the two formats of a :class:`Precision`, rounded to nearest.
        seed: Of stochastic rounding, whose state ``optimizer.state_dict()`` holds; None to draw
            from torch's default generator.
        packed: Whether what the network saves for the backward pass is held in the bits of its
            formats (:class:`~optuna_peppp.lowprecision.simulation.saving.packed_saved_tensors`),
            which changes no number.

    Raises:
        TypeError: Another optimizer.
        ValueError: An unknown recipe, or a module that cannot be rounded.

    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> network, optimizer = low_precision(model, optimizer, "mxfp8", seed=0)
    >>> optimizer.scale(network(torch.ones(1, 4)).sum()).backward()
    >>> optimizer.step()
    """
    quantizer = _quantizer(model, recipe, seed, "eager")
    network = LowPrecisionModule(model, quantizer, packed=packed)
    return network, LowPrecisionOptimizer(optimizer, quantizer, model)


def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Callable[..., Tensor],
    recipe: Recipe | Precision | str,
    *,
    seed: int | None = None,
    max_norm: float | None = None,
    backend: Backend = "compiled",
) -> TrainingStep:
    """Forward pass, loss, backward pass and update as one compiled graph.

    It is the same for all recipes whose numbers share scales in the same way.

    ``step(inputs, *targets)`` trains on a batch and returns its loss. The network gets ``inputs``:
    a mapping as named arguments, a tuple or list as positional ones, all else as the only one.
    What it returns and the targets, if there are any, go to ``loss``. ``step.network`` is what to
    evaluate, ``step.optimizer`` what a scheduler takes; ``step.network.train()`` and ``eval()`` and
    frozen parameters are heeded.

    The first step is eager, and so are those on batches of other shapes than its own. Where a
    network cannot be compiled, one warning says why, and all steps are eager.

    Args:
        model: Any module, on its device.
        optimizer: ``torch.optim.SGD``, ``Adam`` or ``AdamW`` of its parameters.
        loss: Of the output and the targets, one number; a function made anew for every training
            is another graph for the compiler.
        recipe: As of :func:`low_precision`.
        seed: As of :func:`low_precision`.
        max_norm: Norm of all gradients together beyond which they are scaled down, as by
            ``torch.nn.utils.clip_grad_norm_``; None leaves them.
        backend: ``"eager"`` for the reference.

    Raises:
        TypeError: Another optimizer.
        ValueError: An unknown recipe or backend, a module that cannot be rounded, or a norm that
            is not positive.

    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> sgd, loss = torch.optim.SGD(model.parameters()), torch.nn.functional.cross_entropy
    >>> step = training_step(model, sgd, loss, "bfloat16", seed=0, backend="eager")
    >>> bool(step(torch.ones(3, 4), torch.tensor([0, 1, 0])) > 0)
    True
    """
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be positive, or None for no limit; got {max_norm!r}")
    quantizer = _quantizer(model, recipe, seed, backend)
    return TrainingStep(
        LowPrecisionModule(model, quantizer),
        LowPrecisionOptimizer(optimizer, quantizer, model),
        _OwnLoss(loss),
        quantizer,
        max_norm,
    )


class _OwnLoss:
    """The loss of inputs and targets.

    Attributes:
        of_output: The user's, of the network's output and the targets.
    """

    def __init__(self, of_output: Callable[..., Tensor]) -> None:
        self.of_output = of_output

    def __call__(self, network: Callable[..., Any], inputs: Any, *targets: Any) -> Tensor:
        if isinstance(inputs, Mapping):
            output = network(**inputs)
        elif isinstance(inputs, tuple | list):
            output = network(*inputs)
        else:
            output = network(inputs)
        return self.of_output(output, *targets)


def _quantizer(
    model: nn.Module, recipe: Recipe | Precision | str, seed: int | None, backend: Backend
) -> Quantizer:
    if isinstance(recipe, str):
        recipe = Recipe.named(recipe)
    if not isinstance(recipe, Recipe | Precision):
        raise ValueError(
            f"recipe must be a Recipe, the name of one, or a Precision; got {recipe!r}: give "
            "space.recipe(index), 'mxfp8', or Precision.parse('1-4-3', '1-6-9')"
        )
    device = next(model.parameters()).device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    return Quantizer(recipe, DEFAULT_SCHEME, generator, backend)
