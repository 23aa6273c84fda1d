"""Patience with storages: what fails is asked again, and what fails for good is one sentence.

Databases are locked, servers restart and disks fill up while trainings run for hours. So every
question to a storage is asked again for a while, whoever asks: a command, a study, the sampler.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Concatenate, ParamSpec, TypeVar

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from tqdm import tqdm

from optuna_peppp.studies.credentials import shown
from optuna_peppp.studies.failures import cause_of, failures, may_pass, reason_of

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is waited, for what, and by which clock. All times are in seconds.

    Attributes:
        patience: For a storage that fails: locked databases, restarting servers, full disks.
        sign_every: Between two signs of life of a training.
        dead_after: For the next sign of life of another worker, which counts as dead without.
        poll: Between two looks at what other workers do.
        clock: Tells the time, from any start.
        sleep: Waits.
    """

    patience: float = 60.0
    sign_every: float = 15.0
    dead_after: float = 60.0
    poll: float = 2.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Contact:
    """Since when a storage has been in sight without a break.

    Where it failed, or nobody looked for so long that signs of life were missed, what others did
    meanwhile is not known.

    Attributes:
        since: When it came into sight last, by the pace's clock.

    Args:
        pace: The clock, and how long signs of life are waited for.
    """

    def __init__(self, pace: Pace) -> None:
        self.since = -math.inf
        self._pace = pace
        self._last: float | None = None

    def held(self) -> None:
        """The storage answers."""
        now = self._pace.clock()
        # Who stood still for longer finds the others' last sign too old when both go on.
        longest = max(self._pace.dead_after - self._pace.sign_every, self._pace.dead_after / 2)
        if self._last is None or now - self._last > longest:
            self.since = now
        self._last = now

    def lost(self) -> None:
        """The storage fails."""
        self._last = None


class StorageError(OSError):
    """A storage failed, for good or for longer than is waited; the message is one sentence."""


def _patient(
    method: Callable[Concatenate[BaseStorage, _P], _R],
) -> Callable[Concatenate[PatientStorage, _P], _R]:
    """The method of a storage, asked patiently."""

    @functools.wraps(method, updated=())  # not that it is abstract
    def ask(storage: PatientStorage, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        call: Callable[[], _R] = functools.partial(getattr(storage.inner, name), *args, **kwargs)
        try:
            return storage._ask(call)
        except (KeyError, StorageError):
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
            if not reads:
                raise
            raise storage._unreadable(problem) from None

    name = method.__name__
    reads = name.startswith("get_")
    return ask


class PatientStorage(BaseStorage):
    """A storage that is asked again where it fails.

    Asking twice for what was done the first time does no harm: a trial that was created without
    our knowing shows no sign of life and is failed, an attribute is written again, and a trial
    that was completed with our own values is complete.

    Every method raises :class:`StorageError` where the storage fails for good or for too long.

    Attributes:
        inner: The storage itself.
        contact: Since when it answers.

    Args:
        storage: The storage itself.
        name: Its URL or path, for messages.
        pace: How long to ask.
        contact: Where to note whether it answers; by default of its own.
    """

    def __init__(
        self, storage: BaseStorage, name: str, pace: Pace, contact: Contact | None = None
    ) -> None:
        self.inner = storage
        self.contact = contact or Contact(pace)
        self._name = name
        self._pace = pace

    create_new_study = _patient(BaseStorage.create_new_study)
    delete_study = _patient(BaseStorage.delete_study)
    set_study_user_attr = _patient(BaseStorage.set_study_user_attr)
    set_study_system_attr = _patient(BaseStorage.set_study_system_attr)
    get_study_id_from_name = _patient(BaseStorage.get_study_id_from_name)
    get_study_name_from_id = _patient(BaseStorage.get_study_name_from_id)
    get_study_directions = _patient(BaseStorage.get_study_directions)
    get_study_user_attrs = _patient(BaseStorage.get_study_user_attrs)
    get_study_system_attrs = _patient(BaseStorage.get_study_system_attrs)
    get_all_studies = _patient(BaseStorage.get_all_studies)
    create_new_trial = _patient(BaseStorage.create_new_trial)
    set_trial_param = _patient(BaseStorage.set_trial_param)
    set_trial_intermediate_value = _patient(BaseStorage.set_trial_intermediate_value)
    set_trial_user_attr = _patient(BaseStorage.set_trial_user_attr)
    set_trial_system_attr = _patient(BaseStorage.set_trial_system_attr)
    get_trial = _patient(BaseStorage.get_trial)
    get_all_trials = _patient(BaseStorage.get_all_trials)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As of every storage; what arrived although the storage failed counts."""
        change = functools.partial(self.inner.set_trial_state_values, trial_id, state, values)
        try:
            return self._ask(change)
        except UpdateFinishedTrialError:
            trial = self.get_trial(trial_id)
            if state == trial.state == TrialState.COMPLETE and trial.values == values:
                return True
            raise

    def impatient(self) -> PatientStorage:
        """The same storage, asked once only."""
        pace = replace(self._pace, patience=0.0)
        return PatientStorage(self.inner, self._name, pace, self.contact)

    def remove_session(self) -> None:
        """Frees what the storage holds for this thread."""
        self.inner.remove_session()

    def _unreadable(self, problem: Exception) -> StorageError:
        return StorageError(
            f"storage {shown(self._name)} holds what Optuna cannot read "
            f"({type(problem).__name__}: {reason_of(problem, self._name)}); mend it or "
            "give another storage"
        )

    def _ask(self, call: Callable[[], _R]) -> _R:
        def noted() -> _R:
            try:
                result = call()
            except failures():
                self.contact.lost()
                raise
            self.contact.held()
            return result

        try:
            return patiently(noted, may_pass, self._name, self._pace)
        except failures() as problem:
            remedy = (
                "what was measured is kept there: run the same command again to go on"
                if may_pass(problem)
                else "mend it or give another storage"
            )
            raise StorageError(
                f"storage {shown(self._name)} failed ({reason_of(problem, self._name)}); {remedy}"
            ) from cause_of(problem, self._name)


def impatient(storage: BaseStorage) -> BaseStorage:
    """The storage to ask once only, by who has no time to wait."""
    return storage.impatient() if isinstance(storage, PatientStorage) else storage


def patiently(
    call: Callable[[], _R], passing: Callable[[Exception], bool], name: str, pace: Pace
) -> _R:
    """Calls again while it fails, for ``pace.patience``; standard error tells who waits.

    Args:
        call: What to call.
        passing: Whether another call may help against an error.
        name: URL or path of the storage, for messages.
        pace: How long.
    """
    deadline = None
    while True:
        try:
            result = call()
        except Exception as problem:
            if _hides_ctrl_c(problem):  # in the lock of a journal
                raise KeyboardInterrupt from None
            now = pace.clock()
            wait = now + pace.patience if deadline is None else deadline
            if not passing(problem) or now >= wait:
                raise
            if deadline is None:
                _say(
                    f"Waiting up to {pace.patience:.0f} seconds for {shown(name)}: "
                    f"{reason_of(problem, name)}"
                )
            deadline = wait
            pace.sleep(min(1.0, pace.patience))
        else:
            if deadline is not None:
                _say(f"{shown(name)} answers again.")
            return result


def _hides_ctrl_c(problem: BaseException) -> bool:
    link: BaseException | None = problem
    while link is not None and not isinstance(link, KeyboardInterrupt):
        link = link.__context__
    return link is not None


def _say(text: str) -> None:
    """A line on standard error, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
