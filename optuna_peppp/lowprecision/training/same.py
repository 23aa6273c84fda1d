"""Which configurations of an experiment are the same training."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.configurations.classes import classes
from optuna_peppp.configurations.hardware import recipe_of
from optuna_peppp.configurations.names import TUNABLE
from optuna_peppp.configurations.sites import Groups
from optuna_peppp.lowprecision.datasets.loading import ImageData
from optuna_peppp.lowprecision.datasets.text import TextData
from optuna_peppp.lowprecision.memory.accounting import count

if TYPE_CHECKING:
    from optuna_peppp.configurations.space import ConfigurationSpace
    from optuna_peppp.lowprecision.training.experiment import Experiment


def classes_of(experiment: Experiment, space: ConfigurationSpace) -> NDArray[np.intp] | None:
    """Shape (d,), for each configuration the first that is the same training; None for itself.

    Only precision assignments can be another's (:mod:`optuna_peppp.configurations.classes`).
    """
    if "format_low" not in space.names:
        return None
    every = [space.params(index) for index in range(len(space))]
    chosen = [tuple(params.get(name) for name in TUNABLE) for params in every]
    found = np.empty(len(space), dtype=np.intp)
    groups: dict[int, Groups] = {}
    for settings in dict.fromkeys(chosen):
        own = [place for place, other in enumerate(chosen) if other == settings]
        recipes = [recipe_of(every[j], experiment.rounding, experiment.sites) for j in own]
        batch_size = cast(int, every[own[0]].get("batch_size", experiment.batch_size))
        if batch_size not in groups:
            groups[batch_size] = groups_of_task(experiment, batch_size)
        found[own] = np.array(own)[classes(recipes, groups[batch_size])]
    return found


def groups_of_task(experiment: Experiment, batch_size: int) -> Groups:
    """The groups of the tensors of an experiment's network."""
    data, network = experiment.load(), experiment.build()
    if isinstance(data, ImageData | TextData):
        counts = count(network, data.input_shape, batch_size, sites=experiment.sites)
    else:
        counts = count(network, None, None, inputs=data, sites=experiment.sites)
    assert counts.groups is not None
    return counts.groups()
