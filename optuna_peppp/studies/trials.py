"""What the trials of a study say: what they measured, what they hold, and what came to nothing.

The sampler, the prediction and the corpora of studies all read trials here. A finished trial says
by its parameters what it was of; a claim speaks for live trials only. Names that Optuna keeps
private are used here, for all others but :mod:`optuna_peppp.collecting.claims`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState

from optuna_peppp.corpora.measurements import as_error

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from optuna_peppp.configurations.space import ConfigurationSpace

CLAIM: Final = "peppp:configuration"
"""Trial attribute: the parameters this trial will take, written before it takes them."""

INTERRUPTED: Final = "peppp:interrupted"
"""Trial attribute: it failed because its worker was stopped, not because of its configuration."""

TRIES: Final = 3
"""So many trials that come to nothing spend a configuration, as one measurement does."""


def storage_of(study: Study) -> BaseStorage:
    """The storage that keeps a study."""
    return study._storage


def identifier(trial: FrozenTrial | Trial) -> int:
    """What the storage calls a trial."""
    return trial._trial_id


def read_trials(study: Study, *states: TrialState) -> list[FrozenTrial]:
    """The trials of a study, of some states or all, read from the storage now.

    ``study.trials`` may be cached or filtered.
    """
    return study._storage.get_all_trials(study._study_id, deepcopy=False, states=states or None)


def configuration_of(trial: FrozenTrial, space: ConfigurationSpace) -> int | None:
    """The configuration that a trial holds.

    A finished trial holds what its parameters say; a live one what it has taken, then what was
    enqueued, then what it claims.

    Returns:
        The index, or None where the trial holds no configuration of ``space`` (yet).
    """
    values: Mapping[str, Any] = trial.params
    if not trial.state.is_finished() and not values.keys() >= set(space.names):
        attributes = trial.system_attrs
        values = {**attributes.get(CLAIM, {}), **attributes.get("fixed_params", {}), **values}
    try:
        return space.index(values)
    except ValueError:
        return None


def agreeing(trial: FrozenTrial, space: ConfigurationSpace) -> NDArray[np.intp]:
    """The configurations with all values that a trial took; none where it took none of ours."""
    choices = space.choices
    taken = {name: value for name, value in trial.params.items() if name in choices}
    if not taken or any(value not in choices[name] for name, value in taken.items()):
        return np.empty(0, dtype=np.intp)
    return space.matching(taken)


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """How trials use the d configurations.

    A trial comes to nothing that fails, that finishes without a value for every name of the
    space, or that reports what is no error. It counts for all configurations with the values
    that it took. What was interrupted counts as if it had never begun.

    Attributes:
        measured: The m trials that measured an error.
        indices: Shape (m,), their configurations.
        errors: Shape (m,), their errors in [0, 1].
        finished: Shape (d,), number of trials that measured an error or were pruned.
        failures: Shape (d,), number of trials that came to nothing.
        live: Shape (d,), number of running and waiting trials.
        broken: Indices of the configurations of the failed trials.
        misfits: The completed trials that hold no configuration of the space.
        no_errors: The completed trials that hold one and reported what is no error.
    """

    measured: tuple[FrozenTrial, ...]
    indices: NDArray[np.intp]
    errors: NDArray[np.float64]
    finished: NDArray[np.intp]
    failures: NDArray[np.intp]
    live: NDArray[np.intp]
    broken: NDArray[np.intp]
    misfits: tuple[FrozenTrial, ...]
    no_errors: tuple[FrozenTrial, ...]

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], space: ConfigurationSpace) -> Usage:
        """Reads ``trials``."""
        measured: list[tuple[int, float, FrozenTrial]] = []
        finished, failures, live = np.zeros((3, len(space)), dtype=np.intp)
        broken, misfits, no_errors = [], [], []
        for trial in trials:
            index = configuration_of(trial, space)
            if not trial.state.is_finished():
                if index is not None:
                    live[index] += 1
                continue
            if INTERRUPTED in trial.system_attrs:
                continue
            completed = trial.state == TrialState.COMPLETE
            error = as_error(trial.values[0]) if completed else None
            if index is None or trial.state == TrialState.FAIL or (completed and error is None):
                failures[agreeing(trial, space) if index is None else index] += 1
            else:
                finished[index] += 1
            if index is None:
                misfits += [trial] if completed else []
            elif trial.state == TrialState.FAIL:
                broken.append(index)
            elif completed and error is None:
                no_errors.append(trial)
            elif error is not None:
                measured.append((index, error, trial))
        return cls(
            tuple(trial for _, _, trial in measured),
            np.array([index for index, _, _ in measured], dtype=np.intp),
            np.array([error for _, error, _ in measured], dtype=np.float64),
            finished,
            failures,
            live,
            np.unique(np.array(broken, dtype=np.intp)),
            tuple(misfits),
            tuple(no_errors),
        )

    @property
    def spent(self) -> NDArray[np.intp]:
        """Shape (d,), how often a configuration is spent: positive where it is at all."""
        return self.finished + self.failures // TRIES

    def crowding(self, index: int) -> tuple[int, int, int]:
        """How much a configuration is taken: by how often it is spent, live, and failed."""
        counts = self.finished[index], self.live[index], self.failures[index]
        finished, live, failures = map(int, counts)
        return finished + failures // TRIES, live, failures


def other_trials(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """All other trials of a study, read from the storage now."""
    return [other for other in read_trials(study) if other.number != trial.number]


def claim(
    study: Study,
    trial: FrozenTrial,
    space: ConfigurationSpace,
    usage: Usage,
    choose: Callable[[Usage], int],
) -> int:
    """Chooses a configuration and makes it visible to other workers before it is used.

    Args:
        study: The study.
        trial: The trial that will take the configuration.
        space: The configurations.
        usage: What the other trials hold.
        choose: The index of a configuration, given what the other trials hold.
    """
    while True:
        index = choose(usage)
        storage_of(study).set_trial_system_attr(identifier(trial), CLAIM, space.params(index))
        # Of two workers with one choice, the later to write sees the other's claim here. It
        # cannot tell whether the other has already looked, so whoever sees a conflict yields.
        before, usage = usage, Usage.of(other_trials(study, trial), space)
        if usage.crowding(index) <= before.crowding(index):
            return index
