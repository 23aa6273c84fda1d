"""Patience with storages: what fails is asked again, and what fails for good is one sentence.

Databases are locked, servers restart and disks fill up while trainings run for hours. So every
question to a storage is asked again for a while, whoever asks: a command, a study, the sampler.
"""

from __future__ import annotations

import functools
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from errno import ENAMETOOLONG, EROFS
from typing import Concatenate, Final, ParamSpec, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from sqlalchemy import exc
from tqdm import tqdm

from optuna_peppp.studies.credentials import has_password, shown, without_passwords

_LASTING: Final = (
    *(FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError),
    *(exc.ArgumentError, exc.DataError, exc.NotSupportedError, exc.ProgrammingError),
)
"""Errors that waiting does not help against."""

_SQLITE_PASSING: Final = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL),
)
"""SQLite's error codes that it does."""

_GRPC_LASTING: Final = ("PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED")

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


class StorageError(OSError):
    """A storage failed, for good or for longer than is waited; the message is one sentence."""


def _patient(
    method: Callable[Concatenate[BaseStorage, _P], _R],
) -> Callable[Concatenate[PatientStorage, _P], _R]:
    """The method of a storage, asked patiently."""

    @functools.wraps(method, updated=())  # not that it is abstract
    def ask(storage: PatientStorage, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        call: Callable[[], _R] = functools.partial(
            getattr(storage.impatient, name), *args, **kwargs
        )
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
        impatient: The storage itself.

    Args:
        storage: The storage itself.
        name: Its URL or path, for messages.
        pace: How long to ask.
    """

    def __init__(self, storage: BaseStorage, name: str, pace: Pace) -> None:
        self.impatient = storage
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
        change = functools.partial(self.impatient.set_trial_state_values, trial_id, state, values)
        try:
            return self._ask(change)
        except UpdateFinishedTrialError:
            trial = self.get_trial(trial_id)
            if state == trial.state == TrialState.COMPLETE and trial.values == values:
                return True
            raise

    def remove_session(self) -> None:
        """Frees what the storage holds for this thread."""
        self.impatient.remove_session()

    def _unreadable(self, problem: Exception) -> StorageError:
        return StorageError(
            f"storage {shown(self._name)} holds what Optuna cannot read "
            f"({type(problem).__name__}: {reason_of(problem, self._name)}); mend it or "
            "give another storage"
        )

    def _ask(self, call: Callable[[], _R]) -> _R:
        try:
            return patiently(call, may_pass, self._name, self._pace)
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
    return storage.impatient if isinstance(storage, PatientStorage) else storage


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


def failures() -> tuple[type[Exception], ...]:
    """What storages raise when they fail; servers' only where their package is in use."""
    return (
        exc.SQLAlchemyError,
        StorageInternalError,
        OSError,
        *_of_package("redis", "RedisError"),
        *_of_package("grpc", "RpcError"),
    )


def may_pass(problem: BaseException) -> bool:
    """Whether a failure of a storage may pass by itself."""
    return isinstance(problem, failures()) and not any(map(_lasts, links(problem)))


def reason_of(problem: BaseException, name: str) -> str:
    """The driver's own words, which SQLAlchemy and Optuna wrap in theirs: a line.

    Args:
        problem: What was raised.
        name: URL of the storage, whose password they may hold.
    """
    *_, first = links(problem)
    details = getattr(first, "details", None)  # of gRPC, whose text is a page
    text = str((details() if callable(details) else None) or first).strip()
    line = text.splitlines()[0].rstrip(".") if text else type(first).__name__
    return without_passwords(line, name)


def cause_of(problem: Exception, name: str) -> Exception | None:
    """What a sentence about a failure is raised from: nothing that could show a password."""
    return None if has_password(name) else problem


def _lasts(problem: BaseException) -> bool:
    if isinstance(problem, sqlite3.Error):
        return getattr(problem, "sqlite_errorcode", 0) & 0xFF not in _SQLITE_PASSING
    if isinstance(problem, OSError):
        return isinstance(problem, _LASTING) or problem.errno in (EROFS, ENAMETOOLONG)
    if isinstance(problem, _of_package("grpc", "RpcError")):
        code = getattr(problem, "code", None)
        return callable(code) and getattr(code(), "name", "") in _GRPC_LASTING
    return isinstance(problem, (*_LASTING, *_of_package("redis", "AuthenticationError")))


def links(problem: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    link: BaseException | None = problem
    while link is not None:
        yield link
        link = link.__cause__ or getattr(link, "orig", None)  # SQLAlchemy's name of it


def _hides_ctrl_c(problem: BaseException) -> bool:
    link: BaseException | None = problem
    while link is not None and not isinstance(link, KeyboardInterrupt):
        link = link.__context__
    return link is not None


def _of_package(package: str, name: str) -> tuple[type[Exception], ...]:
    """An error of a package, if that was ever imported."""
    found = getattr(sys.modules.get(package), name, None)
    return () if found is None else (found,)


def _say(text: str) -> None:
    """A line on standard error, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
