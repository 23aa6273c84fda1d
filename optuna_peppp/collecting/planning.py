"""Which configurations are to be measured on which data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from optuna_peppp.collecting.claims import Key
from optuna_peppp.configurations.hardware import RECIPE_NAMES, WAYS, names_formats
from optuna_peppp.configurations.names import TUNABLE
from optuna_peppp.configurations.space import ConfigurationSpace, Value
from optuna_peppp.corpora import sampling

if TYPE_CHECKING:
    from optuna_peppp.lowprecision.training.experiment import Experiment


@dataclass(frozen=True, slots=True)
class Measurement:
    """A configuration to measure in an experiment.

    Attributes:
        experiment: The network, the data set, the settings and the seed.
        task: Name of the data set.
        image_size: Height and width of its images, as they are trained on, None of other data.
        space: What is tuned.
        index: The configuration.
        memory: What it needs, in bytes.
        same_as: The first configuration that is the same training; None where it is its own.
    """

    experiment: Experiment
    task: str
    image_size: int | None
    space: ConfigurationSpace
    index: int
    memory: int
    same_as: int | None = None

    @property
    def params(self) -> dict[str, Value]:
        """The configuration's choices."""
        return self.space.params(self.index)

    @property
    def study(self) -> str:
        """Name of the study that it is a trial of: the network and the data set."""
        return f"{self.experiment.network} {self.task}"

    @property
    def key(self) -> Key:
        """What tells it from the others of its study."""
        return self.index, self.experiment.seed

    @property
    def settings(self) -> dict[str, Any]:
        """What all measurements of its study share: repeats with other settings are none."""
        settings = self.experiment.settings()
        del settings["seed"]  # told of every trial
        choices = {name: list(values) for name, values in self.space.choices.items()}
        return settings | {"data": self.task, "image_size": self.image_size} | choices


def plan(
    experiments: Iterable[Experiment],
    space: ConfigurationSpace,
    indices: Sequence[int],
    *,
    fraction: float | None = None,
    scheme: sampling.Scheme = "uniform",
    seed: int = 0,
) -> list[Measurement]:
    """Measurements of the chosen configurations, experiment by experiment: all, or a sample.

    Args:
        experiments: Networks and data sets; each data set is loaded to compute its memory.
        space: The configurations: ``format_a`` and ``format_b``, or what
            :meth:`Recipe.hardware` takes, and, where they are not those of the experiment,
            some of ``TUNABLE``.
        indices: Which of them to measure.
        fraction: Expected share to measure; each configuration at least once. None for all.
        scheme: How they are sampled (:func:`optuna_peppp.corpora.sampling.plan`).
        seed: Of the sample.

    Raises:
        ValueError: ``fraction`` is out of range, or ``space`` tunes something else.
    """
    from optuna_peppp.lowprecision.training.same import classes_of

    formats = {*RECIPE_NAMES}
    if not names_formats(space.names) or not {*space.names} - formats <= {*TUNABLE}:
        raise ValueError(
            f"space must tune {WAYS}, and at most {', '.join(TUNABLE)} besides; it tunes "
            f"{', '.join(space.names)}"
        )
    # A single choice is a setting: the studies then tune what read_csv finds in their export.
    varying = {n: v for n, v in space.choices.items() if n in formats or len(v) > 1}
    fixed = {n: v[0] for n, v in space.choices.items() if n not in varying}
    tuned = ConfigurationSpace(varying)
    rows = []
    for experiment in (replace(one, **fixed) for one in experiments):  # type: ignore[arg-type]
        experiment.check(tuned)
        (name, size), memory = experiment.task, experiment.memory(tuned)
        classes = classes_of(experiment, tuned)
        same = range(len(tuned)) if classes is None else classes.tolist()
        # Who measures reads it again, when its turn has come.
        experiment.release()
        rows.append(
            [
                Measurement(experiment, name, size, tuned, j, int(memory[j]), same[j])
                for j in indices
            ]
        )
    if fraction is None:
        return [measurement for row in rows for measurement in row]
    drawn = sampling.plan([[m.memory for m in row] for row in rows], fraction, scheme, seed)
    return [rows[row][column] for row, column in np.argwhere(drawn).tolist()]


Plan = dict[str, dict[Key, Measurement]]
"""The measurements of every study, in the order of the plan."""


def by_study(measurements: Iterable[Measurement]) -> Plan:
    """A plan by the names of its studies.

    Raises:
        ValueError: A measurement is there twice, or one study would be of two experiments.
    """
    studies: Plan = {}
    for measurement in measurements:
        planned = studies.setdefault(measurement.study, {})
        if measurement.key in planned:
            raise ValueError(
                f"measurements must differ; {measurement.study}, {measurement.params}, seed "
                f"{measurement.experiment.seed} is there twice: name every data set once, and no "
                "two alike"
            )
        planned[measurement.key] = measurement
        first = next(iter(planned.values()))
        if _without_seed(measurement) != _without_seed(first):
            raise ValueError(
                f"measurements of one network and data set must be of one experiment, but for the "
                f"seed; those of {measurement.study} are of two: name every data set once, and no "
                "two alike"
            )
    return studies


def _without_seed(measurement: Measurement) -> tuple[Experiment, ConfigurationSpace]:
    return replace(measurement.experiment, seed=0), measurement.space
