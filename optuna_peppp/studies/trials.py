"""What the trials of a study say: what they measured, what they hold, and what came to nothing.

The sampler, the prediction and the corpora of studies all read trials here. A finished trial says
by its parameters what it was of; a claim speaks for live trials only. Names that Optuna keeps
private are used here, for all others but :mod:`optuna_peppp.collecting.claims`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.trial import TrialState

from optuna_peppp.corpora.measurements import as_errors

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
        # Most trials are complete: they are read together.
        complete, others = [], []
        for trial in trials:
            if trial.state is not TrialState.COMPLETE:
                others.append(trial)
            elif INTERRUPTED not in trial.system_attrs:
                complete.append(trial)
        indices = space.indices(trial.params for trial in complete)
        errors = as_errors([trial.values[0] for trial in complete])
        held, sound = indices >= 0, ~np.isnan(errors)
        measuring = held & sound
        finished = np.bincount(indices[measuring], minlength=len(space))
        failures, live = np.zeros((2, len(space)), dtype=np.intp)
        np.add.at(failures, indices[held & ~sound], 1)
        misfits = tuple(compress(complete, (~held).tolist()))
        for trial in misfits:
            failures[agreeing(trial, space)] += 1
        broken = []
        for trial in others:
            index, ended = configuration_of(trial, space), trial.state.is_finished()
            if ended and INTERRUPTED in trial.system_attrs:
                continue
            if index is None:
                if ended:
                    failures[agreeing(trial, space)] += 1
            elif trial.state == TrialState.FAIL:
                failures[index] += 1
                broken.append(index)
            elif trial.state == TrialState.PRUNED:
                finished[index] += 1
            else:
                live[index] += 1
        return cls(
            tuple(compress(complete, measuring.tolist())),
            indices[measuring],
            errors[measuring],
            finished,
            failures,
            live,
            np.unique(np.array(broken, dtype=np.intp)),
            misfits,
            tuple(compress(complete, (held & ~sound).tolist())),
        )

    def joined(self, other: Usage) -> Usage:
        """With what other trials hold."""
        return Usage(
            self.measured + other.measured,
            np.concatenate((self.indices, other.indices)),
            np.concatenate((self.errors, other.errors)),
            self.finished + other.finished,
            self.failures + other.failures,
            self.live + other.live,
            np.union1d(self.broken, other.broken),
            self.misfits + other.misfits,
            self.no_errors + other.no_errors,
        )

    def shared(self, classes: NDArray[np.intp]) -> Usage:
        """As if every trial of a configuration had been one of all that are the same training.

        Args:
            classes: Shape (d,), equal numbers, below d, for such configurations.
        """

        def summed(counts: NDArray[np.intp]) -> NDArray[np.intp]:
            total = np.bincount(classes, counts, minlength=len(classes))[classes]
            return total.astype(np.intp)

        trial, member = np.nonzero(classes[self.indices][:, None] == classes)
        return replace(
            self,
            measured=tuple(self.measured[place] for place in trial),
            indices=member,
            errors=self.errors[trial],
            finished=summed(self.finished),
            failures=summed(self.failures),
            live=summed(self.live),
            broken=np.flatnonzero(np.isin(classes, classes[self.broken])),
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
    """All other trials of a study by number, read from the storage now."""
    trials = read_trials(study)
    # A trial's number is its place.
    return trials[: trial.number] + trials[trial.number + 1 :]


def claim(
    study: Study,
    trial: FrozenTrial,
    space: ConfigurationSpace,
    others: Sequence[FrozenTrial],
    usage: Usage,
    choose: Callable[[Usage], int],
) -> int:
    """Chooses a configuration and makes it visible to other workers before it is used.

    Args:
        study: The study.
        trial: The trial that will take the configuration.
        space: The configurations.
        others: The other trials, by number.
        usage: What they hold.
        choose: The index of a configuration, given what the other trials hold.
    """
    # What has ended stays as it is, in its place: it is read once.
    unfinished = [place for place, other in enumerate(others) if not other.state.is_finished()]
    held_by_ended = replace(usage, live=np.zeros_like(usage.live))
    while True:
        index = choose(usage)
        storage_of(study).set_trial_system_attr(identifier(trial), CLAIM, space.params(index))
        # Of two workers with one choice, the later to write sees the other's claim here. It
        # cannot tell whether the other has already looked, so whoever sees a conflict yields.
        now = other_trials(study, trial)
        changing = [now[place] for place in unfinished] + now[len(others) :]
        before, usage = usage, held_by_ended.joined(Usage.of(changing, space))
        if usage.crowding(index) <= before.crowding(index):
            return index


def checked_classes(classes: ArrayLike, space: ConfigurationSpace) -> NDArray[np.intp]:
    """Classes of configurations, numbered by the first configuration of each: shape (d,).

    Raises:
        ValueError: They are no integers, or not one for every configuration.
    """
    given = np.asarray(classes)
    if given.shape != (len(space),) or given.dtype.kind not in "iu":
        raise ValueError(
            f"classes must be {len(space)} integers, one for every configuration, equal where two "
            f"are the same training; got shape {given.shape} of {given.dtype}"
        )
    _, first, inverse = np.unique(given, return_index=True, return_inverse=True)
    return first[inverse].astype(np.intp)
