"""A network, a data set and the settings of its trainings, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from optuna_peppp.choices import check_choice
from optuna_peppp.configurations.architecture import check_architecture, check_pair
from optuna_peppp.configurations.data import is_own, is_text, parse_name
from optuna_peppp.configurations.hardware import RECIPE_NAMES, recipe_of
from optuna_peppp.configurations.names import (
    OPTIMIZER_NAMES,
    ROUNDINGS,
    SCHEDULES,
    SITES,
    TUNABLE,
    OptimizerName,
    Rounding,
    Schedule,
    Sites,
)
from optuna_peppp.configurations.plugins import is_plugin, load_plugin
from optuna_peppp.lowprecision.datasets.loading import ImageData, load_dataset
from optuna_peppp.lowprecision.datasets.text import TextData, load_text
from optuna_peppp.lowprecision.memory.spaces import usages
from optuna_peppp.lowprecision.memory.usage import MemoryUsage
from optuna_peppp.lowprecision.training.devices import resolve_device
from optuna_peppp.lowprecision.training.loop import TrainingResult, train
from optuna_peppp.lowprecision.training.numbers import number, whole
from optuna_peppp.lowprecision.training.own import network_of, own_data, own_error
from optuna_peppp.lowprecision.training.randomness import RandomStreams

if TYPE_CHECKING:
    from optuna_peppp.configurations.space import ConfigurationSpace

_PLAIN3_SIZE: Final = 16

_TOLD: Final = ("epochs", "device")
"""What an own training is told beside what may be tuned."""


class _Holder:
    """What an experiment has read; no field, so that it is not compared, copied or pickled."""

    __slots__ = ("_data",)
    _data: ImageData | Any | None


@dataclass(frozen=True, slots=True)
class Experiment(_Holder):
    """Everything that fixes a measurement but its configuration.

    Every configuration starts from the same weights and sees the images in the same order
    (common random numbers): what differs between two configurations is theirs. The data set is
    read once and held until :meth:`release` or the end of the experiment. Numbers of NumPy become
    Python's.

    Attributes:
        data: Data set, as :func:`~optuna_peppp.lowprecision.load_dataset` or
            :func:`~optuna_peppp.lowprecision.load_text` names it, or a function of one's own
            (:data:`~optuna_peppp.configurations.plugins.SIGNATURES`).
        network: Network, as :func:`~optuna_peppp.lowprecision.build_model` names it, or such a
            function.
        image_size: Height and width to resize images to; None takes 16 for ``plain3`` and the
            images' own for the others.
        epochs: Passes over the training images, or the text.
        batch_size: Images, or windows of a text, a step, unless the configuration chooses it.
        learning_rate: Step size, unless the configuration chooses it.
        momentum: Momentum, unless the configuration chooses it.
        weight_decay: Weight decay, unless the configuration chooses it.
        rounding: ``"nearest"`` or ``"stochastic"``, of the paper's formats; recipes of hardware say
            it themselves.
        seed: Seed of the weights and of the training.
        test_fraction: Share to test on, where the data set has no test part.
        device: Where to train.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``, unless the configuration chooses it.
        schedule: Of the step size: ``"constant"``, ``"cosine"`` or ``"onecycle"``, unless the
            configuration chooses it.
        train: A function of one's own that trains and tests, in place of
            :func:`~optuna_peppp.lowprecision.train`.
        sites: Whose outputs are rounded: ``"modules"`` or ``"operators"``, as in a
            :class:`~optuna_peppp.configurations.recipe.Recipe`.
        width: Of ``vit`` and ``gpt``, as ``build_model`` takes it; None for theirs.
        depth: Likewise.
        packed: Whether to hold what forward passes save in its formats, as in ``train``.

    Raises:
        ValueError: Unknown names, numbers that are out of range, or a device that this machine
            does not have.
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
    optimizer: OptimizerName = "sgd"
    schedule: Schedule = "constant"
    train: str | None = None
    sites: Sites = "modules"
    width: int | None = None
    depth: int | None = None
    packed: bool = False

    def __post_init__(self) -> None:
        if is_own(self.data):
            load_plugin("data", self.data)
        else:
            parse_name(self.data)
        if is_plugin(self.network):
            load_plugin("network", self.network)
        if self.train is not None:
            load_plugin("train", self.train)
            if self.packed:
                raise ValueError("packed must be left out with train, which trains as it pleases")
        check_architecture(self.network, self.width, self.depth)
        check_pair(self.network, self.data)
        if self.image_size is not None and is_text(self.data):
            raise ValueError(f"image_size must be left out with data {self.data}, which is a text")
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("rounding", self.rounding, ROUNDINGS)
        check_choice("sites", self.sites, SITES)
        check_choice("optimizer", self.optimizer, OPTIMIZER_NAMES)
        resolve_device(self.device)
        plain: dict[str, Any] = {
            "epochs": whole("epochs", self.epochs),
            "batch_size": whole("batch_size", self.batch_size),
            "seed": whole("seed", self.seed, -(2**63), 2**64 - 1),
            "learning_rate": number("learning_rate", self.learning_rate, zero=False),
            "momentum": number("momentum", self.momentum),
            "weight_decay": number("weight_decay", self.weight_decay),
            "test_fraction": number("test_fraction", self.test_fraction, 1, zero=False),
            "data": str(self.data),
            "device": str(self.device),
            **{
                name: int(value)
                for name, value in (("width", self.width), ("depth", self.depth))
                if value is not None
            },
        }
        if self.image_size is not None:
            plain["image_size"] = whole("image_size", self.image_size)
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

    def check(self, space: ConfigurationSpace) -> None:
        """Refuses a space that tunes a setting to what it cannot be, before anything is trained.

        Raises:
            ValueError: As the constructor.
        """
        for name in TUNABLE:
            for value in space.choices.get(name, ()):
                replace(self, **{name: value})  # type: ignore[arg-type]

    def settings(self) -> dict[str, Any]:
        """What fixes its measurements, by name, as JSON keeps it: not the device, nor packing."""
        settings = asdict(self)
        del settings["device"], settings["packed"]
        return settings

    def load(self) -> ImageData | Any:
        """The data set; read at the first call, whatever becomes of its files afterwards.

        A text is a ``TextData``. An own function may return one batch of example inputs, for an own
        training.

        Raises:
            ValueError, FileNotFoundError, ConnectionError: As ``load_dataset`` and ``load_text``.
        """
        # An unpickled experiment has its fields only.
        data: ImageData | Any | None = getattr(self, "_data", None)
        if data is None and is_own(self.data):
            data = own_data(self.data, self.image_size, examples=self.train is not None)
            object.__setattr__(self, "_data", data)
        elif data is None and is_text(self.data):
            data = load_text(self.data, test_fraction=self.test_fraction)
            object.__setattr__(self, "_data", data)
        elif data is None:
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
            return network_of(
                self.network,
                data,
                logits=self.train is None,
                width=self.width,
                depth=self.depth,
            )

    def memory(self, space: ConfigurationSpace) -> NDArray[np.float64]:
        """Memory of every configuration of a space, in bytes, shape (d,)."""
        return np.array([usage.total for usage in self.usages(space)], dtype=float)

    def usages(self, space: ConfigurationSpace) -> list[MemoryUsage]:
        """The parts of the memory of every configuration of a space."""
        data, network = self.load(), self.build()
        if isinstance(data, ImageData | TextData):
            size: dict[str, Any] = {"input_shape": data.input_shape, "batch_size": self.batch_size}
        else:
            size = {"inputs": data}
        return usages(space, network, **size, optimizer=self.optimizer, sites=self.sites)

    @property
    def task(self) -> tuple[str, int | None]:
        """What its data set is called, and the height of its images, None of what is none."""
        data = self.load()
        if isinstance(data, ImageData):
            return data.name, data.input_shape[1]
        return data.name if isinstance(data, TextData) else self.data, None

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
        chosen = {name: value for name, value in params.items() if name not in RECIPE_NAMES}
        unknown = sorted(set(chosen) - set(TUNABLE))
        if unknown:
            raise ValueError(
                f"params may hold {', '.join((*RECIPE_NAMES, *TUNABLE))}; got {unknown}"
            )
        settings = replace(self, **chosen)  # type: ignore[arg-type]
        recipe = recipe_of(params, self.rounding, self.sites)
        if self.train is not None:
            told = {name: getattr(settings, name) for name in (*TUNABLE, *_TOLD)}
            with RandomStreams(self.seed, resolve_device(self.device)).lent():
                error = own_error(self.train, {**told, **params}, recipe, self.seed)
            if on_epoch is not None:
                on_epoch(self.epochs)
            return TrainingResult(error, (error,), False, self.epochs)
        return train(
            self.build(),
            self.load(),
            recipe,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            optimizer=settings.optimizer,
            schedule=settings.schedule,
            epochs=self.epochs,
            batch_size=settings.batch_size,
            seed=self.seed,
            device=self.device,
            packed=self.packed,
            on_epoch=on_epoch,
        )
