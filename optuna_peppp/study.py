"""Optuna studies as measurements: what a study tells about one task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.trial import TrialState

from optuna_peppp.prediction import Prediction
from optuna_peppp.trials import check_minimized

if TYPE_CHECKING:
    from optuna.study import Study

    from optuna_peppp.meta import MetaModel
    from optuna_peppp.space import ConfigurationSpace


def measurements(
    study: Study, space: ConfigurationSpace
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The measurements that a study holds: its completed trials whose parameters are in ``space``.

    A trial's error is its first value, in studies of one objective or more. Names that are not
    of the space do not matter. A trial that lacks a name, or chose a value that the space does
    not hold, measured nothing that the space knows: it is left out, unless that would leave out
    every trial. Failed, pruned and unfinished trials have no final error.

    Args:
        study: A study whose first objective is the error, minimized.
        space: The configurations.

    Returns:
        Configurations and errors, both of shape (m,), in the order of the trials; a configuration
        that was measured again is there again.

    Raises:
        ValueError: The first objective is maximized; trials were completed, but none of them in
            ``space``; or an error is not between 0 and 1.
    """
    check_minimized(study)
    indices: list[int] = []
    errors: list[float] = []
    misfit = ""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        try:
            index = space.index(trial.params)
        except ValueError as problem:
            misfit = f"Trial {trial.number}: {problem}"
            continue
        error = trial.values[0]
        if not 0 <= error <= 1:
            raise ValueError(
                f"trial {trial.number} must report an error between 0 and 1, the ratio of "
                f"misclassified images, as its first value; got {error}"
            )
        indices.append(index)
        errors.append(error)
    if misfit and not indices:
        raise ValueError(
            f"study {study.study_name!r} must tune {', '.join(space.names)} with the choices of "
            f"the space, as space.suggest(trial) does; no completed trial fits. {misfit}"
        )
    return np.array(indices, dtype=np.intp), np.array(errors, dtype=np.float64)


def predict(study: Study, meta: MetaModel, memory: ArrayLike) -> Prediction:
    """Predicts the errors of all configurations on the task of a study.

    What the study measured is kept (repeats are averaged), the rest is predicted. A study
    without a completed trial predicts the mean over past tasks.

    Args:
        study: A study whose first objective is the error, minimized.
        meta: The meta-model, fitted to past tasks.
        memory: Shape (d,), bytes of every configuration of ``meta.space`` on the task.

    Raises:
        ValueError: As :func:`measurements` does, and for ``memory`` of the wrong length or with
            entries that are not positive numbers.
    """
    indices, errors = measurements(study, meta.space)
    return Prediction.from_measurements(meta, memory, indices, errors)
