"""A study whose measurements workers share: each is made exactly once, on any Optuna storage.

A measurement is a configuration and a seed, and a running trial claims it. Storages create a trial
with its parameters and its number in one step, so that a worker adds its claim and reads all trials
again: of several claims to one measurement the lowest number holds, and the others fail at once.

A worker that is killed leaves a running trial. Clocks of machines differ and not every storage has
heartbeats. So the living write a growing number on their trial, and whoever saw the same number
for ``DEAD_AFTER`` seconds of its own clock fails the trial, which frees the measurement. Should
its worker come back, it finds the trial finished and drops what it measured.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_peppp.space import ConfigurationSpace

SIGN_EVERY: Final = 15.0
"""Seconds between the signs of life on a running trial."""

DEAD_AFTER: Final = 60.0
"""Seconds without a new sign of life after which a worker counts as dead."""

PATIENCE: Final = 60.0
"""Seconds for which a storage that fails is asked again: locked databases, restarting servers."""

_SIGN: Final = "peppp:alive"
"""Trial attribute: the sign of life, a number that grows."""

_FAILURES: Final = (SQLAlchemyError, StorageInternalError, OSError)
"""What storages raise when they cannot be reached or are busy."""

Key = tuple[int, int]
"""A measurement within a study: the index of a configuration, and a seed."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


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
    """

    key: Key
    trial: int


def _patient(
    call: Callable[Concatenate[Claims, _P], _R],
) -> Callable[Concatenate[Claims, _P], _R]:
    """Asks a storage that fails again, for ``PATIENCE`` seconds.

    Asking twice for what was done the first time does no harm: a claim that was written without
    our knowing dies, and a trial that is finished stays as it is.
    """

    @functools.wraps(call)
    def patient(claims: Claims, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return call(claims, *args, **kwargs)
            except _FAILURES as problem:
                if isinstance(problem.__context__, KeyboardInterrupt):
                    raise problem.__context__ from None  # the lock of a journal hides Ctrl-C
                if time.monotonic() < deadline:
                    time.sleep(min(1.0, PATIENCE))
                    continue
                reason = str(problem.__cause__ or problem).strip().splitlines()[0]
                raise ValueError(
                    f"the storage of study {claims.name!r} failed ({reason}); what was measured is "
                    "kept there: run the same command again to go on"
                ) from problem

    return patient


class Claims:
    """The claims of one worker on the measurements of a study.

    Args:
        study: The study; its parameters are those of ``space``.
        space: The configurations.
        worker: Who claims; a name that no other worker has, but for those that end with it.
    """

    def __init__(self, study: Study, space: ConfigurationSpace, worker: str) -> None:
        self.name = study.study_name
        self.space = space
        self.worker = worker
        self._study_id = study._study_id
        self._storage = study._storage  # of databases it reads only what may have changed
        self._seen: dict[int, tuple[int, float]] = {}

    @_patient
    def held(self) -> Held:
        """What is made or being made, read now. Trials that hold no measurement do not count."""
        return self._held()

    @_patient
    def take(self, planned: Collection[Key], attributes: Mapping[str, Any]) -> Claim | None:
        """Claims the first of the planned measurements that is neither made nor being made.

        Args:
            planned: The measurements, the first to be made first.
            attributes: What is to be told of the trial at once.

        Returns:
            The claim, or None where everything is made or being made.
        """
        while True:
            held = self._held()
            # Every one is looked at: a clock runs for each.
            dead = [key for key, trial in held.running.items() if self._is_dead(trial)]
            for key in dead:
                self._fail(held.running.pop(key)._trial_id)
            taken = held.complete.keys() | held.running.keys()
            free = next((key for key in planned if key not in taken), None)
            if free is None:
                return None
            claim = self._claim(free, attributes)
            if claim is not None:
                return claim

    @contextmanager
    def alive(self, claim: Claim) -> Iterator[None]:
        """Shows signs of life on a claim while this block runs."""
        over = threading.Event()

        def show() -> None:
            sign = 0
            while not over.wait(SIGN_EVERY):
                sign += 1
                try:
                    self._storage.set_trial_system_attr(claim.trial, _SIGN, sign)
                except UpdateFinishedTrialError:
                    return  # we were taken for dead
                except _FAILURES:
                    continue  # the next one may arrive

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @_patient
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
        """Fails what this worker left running, so that nobody waits for it."""
        for trial in self._trials(TrialState.RUNNING):
            if trial.user_attrs.get("worker") == self.worker:
                self._fail(trial._trial_id)

    def _held(self) -> Held:
        held = Held({}, {})
        by_state = {TrialState.COMPLETE: held.complete, TrialState.RUNNING: held.running}
        for trial in self._trials(*by_state):
            try:
                key = self.space.index(trial.params), trial.user_attrs["seed"]
            except (KeyError, ValueError):
                continue
            by_state[trial.state].setdefault(key, trial)
        return held

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study_id, deepcopy=False, states=states)

    def _claim(self, key: Key, attributes: Mapping[str, Any]) -> Claim | None:
        """The claim, None where another one to the same measurement was first."""
        index, seed = key
        template = create_trial(
            state=TrialState.RUNNING,
            params=self.space.params(index),
            distributions=self.space.distributions(),
            user_attrs={"seed": seed, "worker": self.worker, **attributes},
        )
        trial = self._storage.create_new_trial(self._study_id, template)
        held = self._held()
        first = held.running.get(key)
        if key in held.complete or first is None or first._trial_id != trial:
            self._fail(trial)
            return None
        return Claim(key, trial)

    def _fail(self, trial: int) -> None:
        with suppress(UpdateFinishedTrialError):  # others may see the same, or it came back
            self._storage.set_trial_state_values(trial, TrialState.FAIL)

    def _is_dead(self, trial: FrozenTrial) -> bool:
        """Whether a running trial has shown the same sign of life for too long."""
        now = time.monotonic()
        sign = trial.system_attrs.get(_SIGN, 0)
        before, since = self._seen.get(trial._trial_id, (None, now))
        if sign != before:
            self._seen[trial._trial_id] = sign, now
            return False
        return now - since > DEAD_AFTER
