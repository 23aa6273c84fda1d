"""Training of any classifier in low precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from optuna_peppp.formats import Precision
from optuna_peppp.lowprecision.datasets import ImageData
from optuna_peppp.lowprecision.modules import LowPrecisionModule
from optuna_peppp.lowprecision.optimizer import OPTIMIZERS, LowPrecisionOptimizer
from optuna_peppp.lowprecision.quantize import Backend
from optuna_peppp.lowprecision.scheme import DEFAULT_SCHEME, Quantizer, RoundingScheme

_TEST_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """One measurement: what a training reached.

    Attributes:
        error: Share of misclassified test images, the mean of ``errors``.
        errors: The test error after each of the last epochs that were averaged.
        diverged: Whether the loss became NaN or infinite; then ``error`` is that of the network
            as it stood at the end of that epoch.
        epochs: Epochs trained.
    """

    error: float
    errors: tuple[float, ...]
    diverged: bool
    epochs: int


def train(
    model: nn.Module,
    data: ImageData,
    precision: Precision | None,
    *,
    learning_rate: float = 0.001,
    epochs: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
    optimizer: str = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    averaged_epochs: int = 3,
    scheme: RoundingScheme = DEFAULT_SCHEME,
    backend: Backend = "compiled",
    on_epoch: Callable[[int], None] | None = None,
) -> TrainingResult:
    """Trains a classifier in simulated low precision and tests it (paper, Section 4).

    The same arguments give the same result on the same machine; the global random state is
    left as it was.

    Args:
        model: Any module from images, float32 (batch, channels, height, width) with mean 0 and
            standard deviation 1 per channel, to logits (batch, classes). It is trained in place
            and moved to ``device``; afterwards its parameters hold the weight accumulators.
        data: The data set; every epoch visits the training images in a new order.
        precision: The two formats, or None to train in float32 throughout.
        learning_rate: Step size.
        epochs: Passes over the training images.
        batch_size: Images a step.
        seed: Seed of the order of images, of stochastic rounding and of dropout.
        device: Where to train.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        momentum: Momentum of ``"sgd"``; the others ignore it.
        weight_decay: Weight decay.
        averaged_epochs: The reported error is the mean over this many last epochs, which takes
            out most of the noise between seeds.
        scheme: What is rounded to which format, and how.
        backend: How tensors are rounded; see :func:`~optuna_peppp.lowprecision.quantize`.
        on_epoch: Called after every epoch with the number of epochs done.

    Raises:
        ValueError: A number that is out of range, an unknown optimizer, or a device that this
            machine does not have.
    """
    _check(learning_rate, epochs, batch_size, averaged_epochs, optimizer)
    device = resolve_device(device)
    if precision is None:
        scheme = replace(scheme, loss_scale=1.0)
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    quantizer = Quantizer(precision, scheme, generator, backend)
    model = model.to(device)
    network = model if precision is None else LowPrecisionModule(model, quantizer)
    settings: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
    if optimizer == "sgd":
        settings["momentum"] = momentum
    update = LowPrecisionOptimizer(OPTIMIZERS[optimizer](model.parameters(), **settings), quantizer)
    batches = _Batches(data, device)
    errors: list[float] = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for epoch in range(1, epochs + 1):
            network.train()
            total = torch.zeros((), device=device)
            for images, labels in batches.train(batch_size, order):
                update.zero_grad()
                loss = cross_entropy(network(images), labels)
                torch.autograd.backward(update.scale(loss))
                update.step()
                total += loss.detach()
            diverged = not math.isfinite(float(total))
            if diverged or epoch > epochs - averaged_epochs:
                errors.append(_test_error(network, batches))
            if on_epoch is not None:
                on_epoch(epoch)
            if diverged:
                return TrainingResult(errors[-1], (errors[-1],), True, epoch)
    return TrainingResult(sum(errors) / len(errors), tuple(errors), False, epochs)


def resolve_device(device: torch.device | str) -> torch.device:
    """The device of a name such as ``"cpu"`` or ``"cuda:1"``.

    Raises:
        ValueError: This machine has no such device.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # what torch raises depends on its build
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must be one of this machine, such as 'cpu' or 'cuda'; got {str(device)!r} "
            f"({reason})"
        ) from error


def _check(
    learning_rate: float, epochs: int, batch_size: int, averaged_epochs: int, optimizer: str
) -> None:
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive; got {learning_rate!r}")
    for name, value in (
        ("epochs", epochs),
        ("batch_size", batch_size),
        ("averaged_epochs", averaged_epochs),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value!r}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {optimizer!r}")


class _Batches:
    """The data set on the device, standardized with the statistics of the training images."""

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self._train = data.train_images.to(device), data.train_labels.to(device)
        self._test = data.test_images.to(device), data.test_labels.to(device)
        # float64 and in one go: a data set of uint8 images is small enough.
        pixels = data.train_images.transpose(0, 1).flatten(1).double()
        self._mean = pixels.mean(1).float().view(-1, 1, 1).to(device)
        self._std = pixels.std(1).clamp(min=1.0).float().view(-1, 1, 1).to(device)

    def train(self, batch_size: int, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """All training images once, in a new order."""
        images, labels = self._train
        indices = torch.randperm(len(labels), generator=order).to(labels.device)
        for batch in torch.split(indices, batch_size):
            # Batch norm cannot train on a single image: one left over waits for the next epoch.
            if len(batch) > 1 or min(batch_size, len(labels)) == 1:
                yield self._standardized(images[batch]), labels[batch]

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All test images."""
        for images, labels in zip(
            *(torch.split(part, _TEST_BATCH) for part in self._test), strict=True
        ):
            yield self._standardized(images), labels

    def _standardized(self, images: Tensor) -> Tensor:
        return (images.float() - self._mean) / self._std


@torch.no_grad()
def _test_error(network: nn.Module, batches: _Batches) -> float:
    network.eval()
    wrong = total = 0
    for images, labels in batches.test():
        # The logits of a diverged network are NaN; argmax answers the first class then.
        wrong += int((network(images).argmax(1) != labels).sum())
        total += len(labels)
    return wrong / total
