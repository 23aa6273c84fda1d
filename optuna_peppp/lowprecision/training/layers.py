"""Which format every tensor of an experiment has in one of its configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from optuna_peppp.configurations.hardware import recipe_of
from optuna_peppp.configurations.layers import Layers
from optuna_peppp.lowprecision.rounding.exemptions import exempt_modules, kinds_of_modules
from optuna_peppp.lowprecision.training.same import groups_of_task

if TYPE_CHECKING:
    from optuna_peppp.lowprecision.training.experiment import Experiment


def layers_of(experiment: Experiment, params: Mapping[str, object]) -> Layers | None:
    """The layers of a configuration that is a precision assignment; None of any other.

    Raises:
        ValueError, OSError: The experiment's data set or network cannot be had.
    """
    if "format_low" not in params:
        return None
    recipe = recipe_of(params, experiment.rounding, experiment.sites)
    batch_size = cast(int, params.get("batch_size", experiment.batch_size))
    kinds = kinds_of_modules(experiment.build())
    groups = groups_of_task(experiment, batch_size)
    return Layers.of(recipe, groups, exempt_modules(kinds, recipe))
