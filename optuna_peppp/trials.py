"""What the trials of a study hold: configurations, claims and how often each is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_peppp.space import ConfigurationSpace

CLAIM: Final = "peppp:configuration"
"""Trial attribute: the parameters this trial will take, written before it takes them."""


def configuration_of(trial: FrozenTrial, space: ConfigurationSpace) -> int | None:
    """The configuration that a trial holds: by its claim, its enqueued or its final parameters.

    Returns:
        The index, or None where the trial holds no configuration of ``space`` (yet).
    """
    values: Mapping[str, Any] = trial.params
    if len(values) < len(space.names) or not values.keys() >= set(space.names):
        attributes = trial.system_attrs
        values = {**attributes.get(CLAIM, {}), **attributes.get("fixed_params", {}), **values}
    try:
        return space.index(values)
    except ValueError:
        return None


def check_minimized(study: Study) -> None:
    """Refuses a study whose first objective cannot be the error.

    Raises:
        ValueError: The first objective is maximized.
    """
    if study.directions[0] != StudyDirection.MINIMIZE:
        raise ValueError(
            f"study {study.study_name!r} must minimize its first objective, the error; it "
            "maximizes it. Report 1 - accuracy in a study that minimizes"
        )


def error_of(trial: FrozenTrial, study: Study) -> float:
    """The error that a completed trial reported.

    Raises:
        ValueError: It is not between 0 and 1.
    """
    error = float(trial.values[0])
    if not 0 <= error <= 1:
        raise ValueError(
            f"trial {trial.number} of study {study.study_name!r} must report an error between 0 "
            f"and 1, the ratio of misclassified images, as its first value; got {error}"
        )
    return error


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """How trials use the configurations.

    Attributes:
        completed: The completed trials of each configuration, in pairs with its index.
        spent: Shape (d,), number of completed and pruned trials.
        live: Shape (d,), number of running and waiting trials.
    """

    completed: tuple[tuple[int, FrozenTrial], ...]
    spent: NDArray[np.intp]
    live: NDArray[np.intp]

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], space: ConfigurationSpace) -> Usage:
        """Counts ``trials``."""
        completed: list[tuple[int, FrozenTrial]] = []
        spent, live = np.zeros((2, len(space)), dtype=np.intp)
        for trial in trials:
            index = None if trial.state == TrialState.FAIL else configuration_of(trial, space)
            if index is None:
                continue
            if trial.state == TrialState.COMPLETE:
                completed.append((index, trial))
            spent[index] += trial.state.is_finished()
            live[index] += not trial.state.is_finished()
        return cls(tuple(completed), spent, live)

    def crowding(self, index: int) -> tuple[int, int]:
        """How much a configuration is taken: by finished trials first, then by live ones."""
        return int(self.spent[index]), int(self.live[index])


def other_trials(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """All other trials, read from the storage now (``study.trials`` may be cached or filtered)."""
    trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
    return [other for other in trials if other.number != trial.number]
