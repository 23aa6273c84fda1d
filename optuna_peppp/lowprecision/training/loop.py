"""Training of any classifier, of images or of the next byte, in low precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.names import SCHEDULES, Backend, OptimizerName, Schedule
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.configurations.recipe import Recipe
from optuna_peppp.lowprecision.datasets.loading import ImageData
from optuna_peppp.lowprecision.datasets.text import TextData
from optuna_peppp.lowprecision.rounding.scheme import DEFAULT_SCHEME, Quantizer, RoundingScheme
from optuna_peppp.lowprecision.simulation.modules import LowPrecisionModule
from optuna_peppp.lowprecision.simulation.optimizer import OPTIMIZERS, LowPrecisionOptimizer
from optuna_peppp.lowprecision.simulation.tf32 import convolutions_fit_tf32, convolutions_in_tf32
from optuna_peppp.lowprecision.training.batches import batches_of
from optuna_peppp.lowprecision.training.devices import resolve_device
from optuna_peppp.lowprecision.training.randomness import RandomStreams
from optuna_peppp.lowprecision.training.schedules import FACTORS
from optuna_peppp.lowprecision.training.step import TrainingStep


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """One measurement: what a training reached.

    Attributes:
        error: Share of misclassified test images, or bytes, the mean of ``errors``.
        errors: The test error after each of the last epochs that were averaged.
        diverged: Whether the loss became NaN or infinite; then ``error`` is that of the network
            as it stood at the end of that epoch.
        epochs: Epochs trained.
        promoted: Names of the parameters, and of the modules whose outputs, were promoted to the
            higher format of the recipe's rule, since too many of their numbers overflowed.
        low_ratio: The share of all numbers of a step, gradients among them, that had the lower
            format in the end; None without a rule.
    """

    error: float
    errors: tuple[float, ...]
    diverged: bool
    epochs: int
    promoted: tuple[str, ...] = ()
    low_ratio: float | None = None


def train(
    model: nn.Module,
    data: ImageData | TextData,
    precision: Precision | Recipe | None,
    *,
    learning_rate: float = 0.001,
    epochs: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
    optimizer: OptimizerName = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    schedule: Schedule = "constant",
    averaged_epochs: int = 3,
    scheme: RoundingScheme = DEFAULT_SCHEME,
    backend: Backend = "compiled",
    packed: bool = False,
    on_epoch: Callable[[int], None] | None = None,
) -> TrainingResult:
    """Trains a classifier in simulated low precision and tests it (paper, Section 4).

    The same arguments give the same result on the same machine, also in several threads. Networks
    that draw from torch's default generators, ``random`` or ``numpy.random`` find numbers of this
    training there; between epochs, for ``on_epoch`` and afterwards, the process's random state and
    its settings of cuDNN are as they were. For that, trainings of one process take turns, an epoch
    at a time: those that are to run side by side want processes of their own. Other threads should
    not seed or draw from the process's generators meanwhile.

    Args:
        model: Any module from images, float32 (batch, channels, height, width) with mean 0 and
            standard deviation 1 per channel, to logits (batch, classes); for a text, from bytes,
            int64 (batch, context), to logits of the next ones (batch, context, 256). It is trained
            in place and moved to ``device``; afterwards its parameters hold the weight
            accumulators.
        data: The data set; every epoch visits the training images, or windows of ``context`` bytes
            of a text, in a new order.
        precision: The two formats, or a recipe, or None to train in float32 throughout.
        learning_rate: Step size.
        epochs: Passes over the training images.
        batch_size: Images, or windows, a step.
        seed: Seed of the order of images, of stochastic rounding and of all that the network draws.
        device: Where to train: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``, a CUDA device
            where there is one.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        momentum: Momentum of ``"sgd"``; the others ignore it.
        weight_decay: Weight decay.
        schedule: Of the step size, which changes with every step: ``"constant"``, ``"cosine"``,
            down to zero, or ``"onecycle"``, up to ``learning_rate`` and down. The compiled step of
            ``"adam"`` and ``"adamw"`` is made for one step size: with a schedule they train
            eagerly, with a warning.
        averaged_epochs: The reported error is the mean over this many last epochs, which takes
            out most of the noise between seeds.
        scheme: What is rounded to which of two formats, and how; a recipe says that itself.
        backend: ``"compiled"``, the whole training step as one graph, the same for all
            precisions, and for all recipes whose numbers share scales in the same way (eager,
            with one warning, where it cannot be compiled or would be compiled again and again);
            ``"eager"``, the reference; ``"qpytorch"``, eager with the kernels of QPyTorch.
        packed: Whether what the forward pass saves for the backward pass is held in the bits of its
            formats, and not in float32: eager training, of which no number changes.
        on_epoch: Called after every epoch with the number of epochs done.

    Raises:
        ValueError: A number that is out of range, an unknown optimizer, schedule or backend, what
            is no :class:`Precision`, or a device that this machine does not have.
    """
    _check(learning_rate, epochs, batch_size, averaged_epochs)
    check_choice("optimizer", optimizer, OPTIMIZERS)
    check_choice("schedule", schedule, SCHEDULES)
    device = resolve_device(device)
    if precision is None:
        scheme = replace(scheme, loss_scale=1.0)
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    if packed and backend == "compiled":
        backend = "eager"
    quantizer = Quantizer(precision, scheme, generator, backend)
    model = model.to(device)
    network = model if precision is None else LowPrecisionModule(model, quantizer, packed=packed)
    settings: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
    if optimizer == "sgd":
        settings["momentum"] = momentum
    batches = batches_of(data, device)
    with RandomStreams(seed, device).lent():
        # Nothing is drawn here, but a compiler puts back the random state that it found, which
        # may be that of a training in another thread.
        update = LowPrecisionOptimizer(
            OPTIMIZERS[optimizer](model.parameters(), **settings), quantizer, model
        )
        step = TrainingStep(network, update, batches.loss, quantizer)
        fits = device.type == "cuda" and convolutions_fit_tf32(
            model, precision, scheme, batches.sample()
        )
    streams = RandomStreams(seed, device)
    factor, taken, steps = FACTORS[schedule], 0, epochs * batches.steps(batch_size)
    errors: list[float] = []
    for epoch in range(1, epochs + 1):
        with streams.lent(), convolutions_in_tf32(fits):
            network.train()
            step.renew()
            total = torch.zeros((), device=device)
            for inputs, targets in batches.shuffled(batch_size, order):
                for group in update.param_groups:
                    group["lr"] = learning_rate * factor(taken, steps)
                total += step(inputs, targets)
                taken += 1
            # The only number of an epoch that the program waits for.
            diverged = not math.isfinite(float(total))
            if diverged or epoch > epochs - averaged_epochs:
                errors.append(batches.error(network))
        if on_epoch is not None:
            on_epoch(epoch)
        if diverged:
            return TrainingResult(errors[-1], (errors[-1],), True, epoch, *_assigned(network))
    error = sum(errors) / len(errors)
    return TrainingResult(error, tuple(errors), False, epochs, *_assigned(network))


def _assigned(network: nn.Module) -> tuple[tuple[str, ...], float | None]:
    """What was promoted in a training, and what was low in the end."""
    assigned = network.assigned if isinstance(network, LowPrecisionModule) else None
    return ((), None) if assigned is None else (assigned.promoted(), assigned.low_ratio())


def _check(learning_rate: float, epochs: int, batch_size: int, averaged_epochs: int) -> None:
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive; got {learning_rate!r}")
    for name, value in (
        ("epochs", epochs),
        ("batch_size", batch_size),
        ("averaged_epochs", averaged_epochs),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value!r}")
