"""A study whose measurements workers share: each is made exactly once, on any Optuna storage.

A measurement is a configuration and a seed, and a running trial claims it. Storages create a trial
with its parameters and its number in one step, so that a worker adds its claim and reads all trials
again: of several claims to one measurement the lowest number holds, and the others fail at once.

Who dies leaves a claim that others take over (:mod:`optuna_peppp.studies.life`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from optuna_peppp.studies.life import Watch, alive, fail
from optuna_peppp.studies.patience import Pace, impatient
from optuna_peppp.studies.trials import configuration_of, identifier, read_trials, storage_of

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_peppp.configurations.space import ConfigurationSpace

Key = tuple[int, int]
"""A measurement within a study: the index of a configuration, and a seed."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What of a study is made or being made.

    Attributes:
        complete: The completed trial of every measurement; the first, should there be several.
        running: The running trial of every measurement that is claimed; the first again.
    """

    complete: dict[Key, FrozenTrial]
    running: dict[Key, FrozenTrial]


@dataclass(frozen=True, slots=True)
class Claim:
    """A measurement that is ours to make.

    Attributes:
        key: The measurement.
        trial: The storage's identifier of the running trial.
        made: The completed trial of the same training, where there is one.
    """

    key: Key
    trial: int
    made: FrozenTrial | None = None


class Claims:
    """The claims of one worker on the measurements of a study.

    Args:
        study: The study; its parameters are those of ``space``.
        space: The configurations.
        worker: Who claims; a name that no other worker has, but for those that end with it.
        pace: How often it shows signs of life, and how long it waits for those of others.
    """

    def __init__(
        self, study: Study, space: ConfigurationSpace, worker: str, pace: Pace | None = None
    ) -> None:
        self.name = study.study_name
        self.space = space
        self.worker = worker
        self._study = study
        self._storage = storage_of(study)
        self._pace = pace or Pace()
        self._watch = Watch(self._storage, self._pace)

    def held(self) -> Held:
        """What is made or being made, read now. Trials that hold no measurement do not count."""
        held = Held({}, {})
        by_state = {TrialState.COMPLETE: held.complete, TrialState.RUNNING: held.running}
        for trial in read_trials(self._study, *by_state):
            index, seed = configuration_of(trial, self.space), trial.user_attrs.get("seed")
            if index is not None and seed is not None:
                by_state[trial.state].setdefault((index, seed), trial)
        return held

    def take(
        self,
        planned: Collection[Key],
        attributes: Mapping[str, Any],
        after: Mapping[Key, Key] = MappingProxyType({}),
    ) -> Claim | None:
        """Claims the first of the planned measurements that is neither made nor being made.

        Args:
            planned: The measurements, the first to be made first.
            attributes: What is to be told of the trial at once.
            after: Of measurements that are the training of another, that one: they wait for it.

        Returns:
            The claim, or None where everything is made, being made, or waits for what is.
        """
        while True:
            held = self.held()
            living = {trial.number for trial in self._watch.living(held.running.values())}
            running = {key for key, trial in held.running.items() if trial.number in living}
            taken = held.complete.keys() | running
            ready = (key for key in planned if after.get(key, key) not in running)
            free = next((key for key in ready if key not in taken), None)
            if free is None:
                return None
            claim = self._claim(free, attributes)
            if claim is not None:
                return replace(claim, made=held.complete.get(after.get(free, free)))

    def alive(self, claim: Claim) -> AbstractContextManager[None]:
        """Shows signs of life on a claim while the block of this context runs."""
        return alive(self._storage, claim.trial, self._pace)

    def complete(
        self, claim: Claim, values: Sequence[float], attributes: Mapping[str, Any]
    ) -> bool:
        """Tells what was measured.

        Args:
            claim: The measurement.
            values: The study's values, error and memory in bytes.
            attributes: What else is to be told of the trial.

        Returns:
            Whether it counts: another worker may have taken us for dead.
        """
        try:
            for name, value in attributes.items():
                self._storage.set_trial_user_attr(claim.trial, name, value)
            return self._storage.set_trial_state_values(
                claim.trial, TrialState.COMPLETE, list(values)
            )
        except UpdateFinishedTrialError:
            return False

    def abandon(self) -> None:
        """Fails what this worker left running, so that nobody waits for it.

        The storage is asked once: it may be what this worker ends for.
        """
        storage = impatient(self._storage)
        running = (TrialState.RUNNING,)
        for trial in storage.get_all_trials(self._study._study_id, False, running):
            if trial.user_attrs.get("worker") == self.worker:
                fail(storage, identifier(trial))

    def _claim(self, key: Key, attributes: Mapping[str, Any]) -> Claim | None:
        """The claim, None where another one to the same measurement was first."""
        index, seed = key
        template = create_trial(
            state=TrialState.RUNNING,
            params=self.space.params(index),
            distributions=self.space.distributions(),
            user_attrs={"seed": seed, "worker": self.worker, **attributes},
        )
        trial = self._storage.create_new_trial(self._study._study_id, template)
        held = self.held()
        first = held.running.get(key)
        if key in held.complete or first is None or identifier(first) != trial:
            fail(self._storage, trial)
            return None
        return Claim(key, trial)
