"""Which corpora there are to measure, and how each is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from optuna_peppp import ConfigurationSpace
from optuna_peppp.collecting.planning import Measurement, plan
from optuna_peppp.configurations.names import Network
from optuna_peppp.configurations.precision import FORMATS_A, FORMATS_B
from optuna_peppp.lowprecision import Experiment
from optuna_peppp.lowprecision.rounding.quantize import Rounding

SUPERCLASSES: Final = (
    *("flowers", "people", "vehicles_1", "large_carnivores", "household_furniture"),
    *("fish", "insects", "trees", "small_mammals", "food_containers"),
    *("aquatic_mammals", "fruit_and_vegetables", "household_electrical_devices"),
    *("large_man_made_outdoor_things", "large_natural_outdoor_scenes"),
    *("large_omnivores_and_herbivores", "medium_sized_mammals", "non_insect_invertebrates"),
    *("reptiles", "vehicles_2"),
)
"""CIFAR-100's, in an order of which every beginning is varied."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A corpus to measure: the first so many superclasses, with every network.

    One learning rate, or several to tune; a fraction of the entries, uniformly, or None for all.
    """

    name: str
    tasks: int
    networks: tuple[Network, ...] = ("resnet18",)
    epochs: int = 10
    batch_size: int = 32
    learning_rates: tuple[float, ...] = (0.001,)
    rounding: Rounding = "stochastic"
    fraction: float | None = None
    image_size: int | None = None

    def measurements(self, data: Path, device: str) -> list[Measurement]:
        """The plan, with data sets SUPERCLASS.npz of a folder."""
        space = ConfigurationSpace(
            {"format_a": FORMATS_A, "format_b": FORMATS_B, "learning_rate": self.learning_rates}
        )
        experiments = [
            Experiment(
                data=f"npz:{data / task}.npz",
                network=network,
                image_size=self.image_size,
                epochs=self.epochs,
                batch_size=self.batch_size,
                rounding=self.rounding,
                device=device,
            )
            for network in self.networks
            for task in SUPERCLASSES[: self.tasks]
        ]
        return plan(experiments, space, range(len(space)), fraction=self.fraction)


RATES: Final = (0.01, 0.001, 0.0001)
"""The learning rates of Appendix E.4.2."""

RECIPES: Final = (
    Recipe("resnet18-cifar100", 20),
    Recipe("resnet18-cifar100-nearest", 5, rounding="nearest"),
    Recipe("resnet18-cifar100-rates", 16, learning_rates=RATES, batch_size=128, epochs=20),
    Recipe("networks-cifar100", 10, ("resnet34", "vgg11", "vgg13", "vgg16", "vgg19"), fraction=0.2),
    Recipe("resnet18-cifar100-100epochs", 2, epochs=100),
)
"""The corpora of the paper's Section 4 and Appendices E.4 and E.5, most useful first."""

_THIN: Final[tuple[Network, ...]] = ("plain3", "resnet20")

QUICK: Final = tuple(
    replace(recipe, image_size=16)
    for recipe in (
        Recipe("thin-cifar100", 2, _THIN, epochs=2, fraction=0.2),
        Recipe("thin-cifar100-nearest", 2, _THIN[:1], epochs=2, fraction=0.2, rounding="nearest"),
        Recipe("thin-cifar100-rates", 2, _THIN[:1], 2, 128, RATES, fraction=0.1),
        Recipe("thin-cifar100-10epochs", 2, _THIN[:1], epochs=10, fraction=0.2),
    )
)
"""The same with thin networks and two superclasses, for a machine without a GPU."""

EPOCHS: Final = {
    "resnet18-cifar100-100epochs": "resnet18-cifar100",
    "thin-cifar100-10epochs": "thin-cifar100",
}
"""Corpora that were trained for longer, and the one that the same tasks are in otherwise."""
