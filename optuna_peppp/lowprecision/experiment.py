"""A network, a data set and the settings of its trainings, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from optuna_peppp.formats import Precision
from optuna_peppp.lowprecision.datasets import ImageData, load_dataset
from optuna_peppp.lowprecision.memory import memory_vector
from optuna_peppp.lowprecision.models import build_model
from optuna_peppp.lowprecision.quantize import Rounding
from optuna_peppp.lowprecision.scheme import RoundingScheme
from optuna_peppp.lowprecision.training import TrainingResult, resolve_device, train

if TYPE_CHECKING:
    from optuna_peppp.space import ConfigurationSpace

TUNABLE: Final = ("learning_rate", "momentum", "weight_decay")
"""The settings that a configuration may choose besides its formats."""

_PLAIN3_SIZE: Final = 16


@dataclass(frozen=True, slots=True)
class Experiment:
    """Everything that fixes a measurement but its configuration.

    Every configuration starts from the same weights and sees the images in the same order
    (common random numbers): what differs between two configurations is theirs.

    Attributes:
        data: Data set, as :func:`~optuna_peppp.lowprecision.load_dataset` names it.
        network: Network, as :func:`~optuna_peppp.lowprecision.build_model` names it.
        image_size: Height and width to resize images to; None takes 16 for ``plain3`` and the
            images' own for the others.
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: Step size, unless the configuration chooses it.
        momentum: Momentum, unless the configuration chooses it.
        weight_decay: Weight decay, unless the configuration chooses it.
        rounding: ``"nearest"`` or ``"stochastic"``.
        seed: Seed of the weights and of the training.
        test_fraction: Share of images to test on, where the data set has no test part.
        device: Where to train.

    Raises:
        ValueError: This machine does not have the device.
    """

    data: str
    network: str
    image_size: int | None = None
    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    rounding: Rounding = "stochastic"
    seed: int = 0
    test_fraction: float = 0.2
    device: str = "cpu"

    def __post_init__(self) -> None:
        resolve_device(self.device)

    def load(self) -> ImageData:
        """The data set; loaded once per process.

        Raises:
            ValueError, FileNotFoundError, ConnectionError: As ``load_dataset``.
        """
        size = self.image_size
        if size is None and self.network == "plain3":
            size = _PLAIN3_SIZE
        return _load(self.data, size, self.test_fraction)

    def build(self) -> nn.Module:
        """The network with its initial weights.

        Raises:
            ValueError: As ``build_model``.
        """
        data = self.load()
        with torch.random.fork_rng([]):
            torch.manual_seed(self.seed)
            return build_model(self.network, data.num_classes, data.input_shape)

    def memory(self, space: ConfigurationSpace) -> NDArray[np.float64]:
        """Memory of every configuration of a space, in bytes, shape (d,)."""
        return memory_vector(space, self.build(), self.load().input_shape, self.batch_size)

    def measure(
        self, params: Mapping[str, object], on_epoch: Callable[[int], None] | None = None
    ) -> TrainingResult:
        """Trains and tests one configuration.

        Args:
            params: ``format_a``, ``format_b`` and whichever of ``TUNABLE`` it chooses.
            on_epoch: Called after every epoch with the number of epochs done.

        Raises:
            ValueError: Another name among ``params``.
        """
        chosen = {k: v for k, v in params.items() if k not in ("format_a", "format_b")}
        unknown = sorted(set(chosen) - set(TUNABLE))
        if unknown:
            raise ValueError(
                f"params may hold format_a, format_b, {', '.join(TUNABLE)}; got {unknown}"
            )
        settings = replace(self, **chosen)  # type: ignore[arg-type]
        return train(
            self.build(),
            self.load(),
            Precision.parse(str(params["format_a"]), str(params["format_b"])),
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            device=self.device,
            scheme=RoundingScheme(rounding=self.rounding),
            on_epoch=on_epoch,
        )


@functools.lru_cache(maxsize=4)
def _load(data: str, image_size: int | None, test_fraction: float) -> ImageData:
    return load_dataset(data, image_size=image_size, test_fraction=test_fraction)
