"""A network, a data set and the settings of its trainings, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.data import parse_name
from optuna_peppp.configurations.hardware import FORMAT_NAMES, HARDWARE_NAMES, recipe_of
from optuna_peppp.configurations.names import (
    NETWORKS,
    OPTIMIZER_NAMES,
    ROUNDINGS,
    Network,
    OptimizerName,
    Rounding,
)
from optuna_peppp.lowprecision.datasets.loading import ImageData, load_dataset
from optuna_peppp.lowprecision.memory.accounting import memory_vector
from optuna_peppp.lowprecision.networks import build_model
from optuna_peppp.lowprecision.training.devices import resolve_device
from optuna_peppp.lowprecision.training.loop import TrainingResult, train
from optuna_peppp.lowprecision.training.randomness import RandomStreams

if TYPE_CHECKING:
    from optuna_peppp.configurations.space import ConfigurationSpace

TUNABLE: Final = ("learning_rate", "momentum", "optimizer", "weight_decay")
"""The settings that a configuration may choose besides its formats."""

_PLAIN3_SIZE: Final = 16


class _Holder:
    """What an experiment has read; no field, so that it is not compared, copied or pickled."""

    __slots__ = ("_data",)
    _data: ImageData | None


@dataclass(frozen=True, slots=True)
class Experiment(_Holder):
    """Everything that fixes a measurement but its configuration.

    Every configuration starts from the same weights and sees the images in the same order
    (common random numbers): what differs between two configurations is theirs. The data set is
    read once and held until :meth:`release` or the end of the experiment. Numbers of NumPy become
    Python's.

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
        rounding: ``"nearest"`` or ``"stochastic"``, of the paper's formats; recipes of hardware say
            it themselves.
        seed: Seed of the weights and of the training.
        test_fraction: Share of images to test on, where the data set has no test part.
        device: Where to train.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``, unless the configuration chooses it.

    Raises:
        ValueError: Unknown names, numbers that are out of range, or a device that this machine
            does not have.
    """

    data: str
    network: Network
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
    optimizer: OptimizerName = "sgd"

    def __post_init__(self) -> None:
        parse_name(self.data)
        check_choice("network", self.network, NETWORKS)
        check_choice("rounding", self.rounding, ROUNDINGS)
        check_choice("optimizer", self.optimizer, OPTIMIZER_NAMES)
        resolve_device(self.device)
        plain: dict[str, Any] = {
            "epochs": _whole("epochs", self.epochs),
            "batch_size": _whole("batch_size", self.batch_size),
            "seed": _whole("seed", self.seed, -(2**63), 2**64 - 1),
            "learning_rate": _number("learning_rate", self.learning_rate, zero=False),
            "momentum": _number("momentum", self.momentum),
            "weight_decay": _number("weight_decay", self.weight_decay),
            "test_fraction": _number("test_fraction", self.test_fraction, 1, zero=False),
            "data": str(self.data),
            "device": str(self.device),
        }
        if self.image_size is not None:
            plain["image_size"] = _whole("image_size", self.image_size)
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_data", None)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], device: str = "cpu") -> Self:
        """The experiment of :meth:`settings`, on any device; what is missing takes its default.

        Raises:
            ValueError: A name or a value that is no setting, or no data set or network.
        """
        try:
            return cls(**settings, device=device)
        except TypeError as problem:  # a name that is none, or missing
            raise ValueError(
                "settings must be what Experiment.settings() returns, by name; got "
                f"{', '.join(settings) or 'none'}"
            ) from problem

    def settings(self) -> dict[str, Any]:
        """What fixes its measurements, by name, as JSON keeps it: all but the device."""
        settings = asdict(self)
        del settings["device"]
        return settings

    def load(self) -> ImageData:
        """The data set; read at the first call, whatever becomes of its files afterwards.

        Raises:
            ValueError, FileNotFoundError, ConnectionError: As ``load_dataset``.
        """
        # An unpickled experiment has its fields only.
        data: ImageData | None = getattr(self, "_data", None)
        if data is None:
            size = self.image_size
            if size is None and self.network == "plain3":
                size = _PLAIN3_SIZE
            data = load_dataset(self.data, image_size=size, test_fraction=self.test_fraction)
            object.__setattr__(self, "_data", data)
        return data

    def release(self) -> None:
        """Lets go of the data set; the next :meth:`load` reads it again."""
        object.__setattr__(self, "_data", None)

    def build(self) -> nn.Module:
        """The network with its initial weights.

        Raises:
            ValueError: As ``build_model``.
        """
        data = self.load()
        with RandomStreams(self.seed).lent():
            return build_model(self.network, data.num_classes, data.input_shape)

    def memory(self, space: ConfigurationSpace) -> NDArray[np.float64]:
        """Memory of every configuration of a space, in bytes, shape (d,)."""
        network, shape = self.build(), self.load().input_shape
        return memory_vector(space, network, shape, self.batch_size, optimizer=self.optimizer)

    def measure(
        self, params: Mapping[str, object], on_epoch: Callable[[int], None] | None = None
    ) -> TrainingResult:
        """Trains and tests one configuration.

        Args:
            params: Formats, as :func:`~optuna_peppp.configurations.hardware.recipe_of` reads them,
                and whichever of ``TUNABLE`` it chooses.
            on_epoch: Called after every epoch with the number of epochs done.

        Raises:
            ValueError: Another name among ``params``, or no formats.
        """
        names = FORMAT_NAMES if "format_a" in params else HARDWARE_NAMES
        chosen = {name: value for name, value in params.items() if name not in names}
        unknown = sorted(set(chosen) - set(TUNABLE))
        if unknown:
            raise ValueError(
                f"params may hold {', '.join(names)} and {', '.join(TUNABLE)}; got {unknown}"
            )
        settings = replace(self, **chosen)  # type: ignore[arg-type]
        return train(
            self.build(),
            self.load(),
            recipe_of(params, self.rounding),
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            optimizer=settings.optimizer,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            device=self.device,
            on_epoch=on_epoch,
        )


def _whole(name: str, value: object, low: int = 1, high: int | None = None) -> int:
    """A whole number within bounds as Python's int."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if number >= low and (high is None or number <= high):
            return number
    bounds = f"at least {low}" if high is None else f"between {low} and {high}"
    raise ValueError(f"{name} must be a whole number, {bounds}; got {value!r}")


def _number(name: str, value: object, below: float = math.inf, *, zero: bool = True) -> float:
    """A number from 0, or above it, to below a bound as Python's float."""
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if number < below and (number > 0 or (zero and number == 0)):
            return number
    least = "at least 0" if zero else "above 0"
    bound = "finite" if below == math.inf else f"below {below:g}"
    raise ValueError(f"{name} must be a number, {least} and {bound}; got {value!r}")
