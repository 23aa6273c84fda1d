from __future__ import annotations

import errno
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError, ProgrammingError

from optuna_peppp.studies.failures import may_pass
from optuna_peppp.studies.patience import Pace, PatientStorage, StorageError, impatient

NAME = "postgresql://me:hunter2@host/db"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(clock: Clock) -> PatientStorage:
    """A storage in memory with a study of one running trial, number 0."""
    opened = InMemoryStorage()
    opened.create_new_trial(opened.create_new_study([StudyDirection.MINIMIZE], "one"))
    return PatientStorage(opened, NAME, Pace(clock=lambda: clock.now, sleep=clock.sleep))


def sqlite_error(code: int, text: str = "sqlite") -> Exception:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return OperationalError("SELECT", {}, error)


def internal(error: Exception) -> Exception:
    problem = StorageInternalError("An exception is raised during the commit.")
    problem.__cause__ = error
    return problem


def server_error(package: str, name: str) -> Exception:
    module = pytest.importorskip(package)
    if package == "redis":
        error: Exception = getattr(module.exceptions, name)("the server says no")
        return error

    class Failed(module.RpcError):  # type: ignore[name-defined,misc]
        def code(self) -> Any:
            return module.StatusCode[name]

        def details(self) -> str:
            return "the server says no"

    return Failed()


PASSING: list[Callable[[], Exception]] = [
    lambda: sqlite_error(sqlite3.SQLITE_BUSY),
    lambda: internal(sqlite_error(sqlite3.SQLITE_FULL)),
    lambda: internal(OperationalError("SELECT", {}, Exception("terminating connection"))),
    lambda: OSError(errno.ENOSPC, "No space left on device"),
    lambda: ConnectionResetError("reset"),
    lambda: server_error("redis", "ConnectionError"),
    lambda: server_error("redis", "BusyLoadingError"),
    lambda: server_error("grpc", "UNAVAILABLE"),
    lambda: server_error("grpc", "UNKNOWN"),
]
LASTING: list[Callable[[], Exception]] = [
    lambda: internal(sqlite_error(sqlite3.SQLITE_ERROR, "no such table: trials")),
    lambda: sqlite_error(sqlite3.SQLITE_READONLY),
    lambda: sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED),
    lambda: sqlite_error(sqlite3.SQLITE_NOTADB),
    lambda: internal(ProgrammingError("SELECT", {}, Exception("relation does not exist"))),
    lambda: PermissionError(errno.EACCES, "Permission denied"),
    lambda: FileNotFoundError(errno.ENOENT, "No such file"),
    lambda: OSError(errno.EROFS, "Read-only file system"),
    lambda: server_error("redis", "AuthenticationError"),
    lambda: server_error("grpc", "UNIMPLEMENTED"),
]
OTHERS = (KeyError("x"), ValueError("x"), UpdateFinishedTrialError("x"), RuntimeError("x"))


def failing(
    monkeypatch: pytest.MonkeyPatch, storage: PatientStorage, method: str, problems: Iterator[Any]
) -> None:
    """Lets a method of the storage itself fail so often."""
    inner = storage.inner
    real = getattr(inner, method)

    def fails(*arguments: Any, **named: Any) -> Any:
        for problem in problems:
            raise problem
        return real(*arguments, **named)

    monkeypatch.setattr(inner, method, fails)


@pytest.mark.parametrize("make", PASSING)
@pytest.mark.parametrize("method", ["get_all_trials", "set_trial_user_attr", "create_new_trial"])
def test_what_passes_is_waited_for(
    storage: PatientStorage,
    clock: Clock,
    make: Callable[[], Exception],
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(monkeypatch, storage, method, iter([make() for _ in range(3)]))
    arguments = {"set_trial_user_attr": (0, "a", 1)}.get(method, (0,))
    getattr(storage, method)(*arguments)
    assert clock.now == 3
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].startswith("Waiting up to 60 seconds for postgresql://me:***@host/db: ")
    assert told[1] == "postgresql://me:***@host/db answers again."


@pytest.mark.parametrize("make", PASSING)
def test_patience_ends(
    storage: PatientStorage,
    clock: Clock,
    make: Callable[[], Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, storage, "get_all_trials", iter(make, None))
    with pytest.raises(StorageError, match=r"^storage postgresql://.* failed \(.*to go on$"):
        storage.get_all_trials(0)
    assert clock.now == 60


@pytest.mark.parametrize("make", LASTING)
def test_what_lasts_is_not_waited_for(
    storage: PatientStorage,
    clock: Clock,
    make: Callable[[], Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, storage, "get_all_trials", iter(make, None))
    with pytest.raises(StorageError, match=r"^storage postgresql://.* failed \(.*another storage$"):
        storage.get_all_trials(0)
    assert clock.now == 0


@pytest.mark.parametrize("problem", OTHERS)
def test_what_is_no_failure_is_none_of_ours(
    storage: PatientStorage, problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not may_pass(problem)
    failing(monkeypatch, storage, "set_trial_user_attr", iter([problem]))
    with pytest.raises(type(problem)):
        storage.set_trial_user_attr(0, "a", 1)


@pytest.mark.parametrize("problem", [LookupError("x"), TypeError("x"), ValueError("x")])
def test_what_cannot_be_read_is_a_sentence(
    storage: PatientStorage, problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, storage, "get_all_trials", iter([problem]))
    with pytest.raises(StorageError, match=r"holds what Optuna cannot read \(\w+: x\); mend it"):
        storage.get_all_trials(0)


def test_a_result_that_arrived_although_the_storage_failed_counts(
    storage: PatientStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = storage.inner
    real, failures = inner.set_trial_state_values, iter([ConnectionResetError("reset")])

    def late(*arguments: Any) -> bool:
        result = real(*arguments)
        for problem in failures:
            raise problem
        return result

    monkeypatch.setattr(inner, "set_trial_state_values", late)
    assert storage.set_trial_state_values(0, TrialState.COMPLETE, [0.5])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(0, TrialState.COMPLETE, [0.25])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(0, TrialState.FAIL)
    assert storage.get_trial(0).values == [0.5]


def test_no_traceback_shows_a_password(
    storage: PatientStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = OperationalError("SELECT", {}, Exception(f"cannot connect to {NAME}: 'hunter2'"))
    failing(monkeypatch, storage, "get_all_trials", iter(lambda: problem, None))
    with pytest.raises(StorageError) as caught:
        storage.get_all_trials(0)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_ctrl_c_is_not_lost_in_an_error(
    storage: PatientStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlock(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except BaseException:
            try:
                Path("no such lock").rename("other")
            except OSError:
                raise RuntimeError("Error: did not possess lock")  # noqa: B904 (as Optuna's does)

    monkeypatch.setattr(storage.inner, "get_all_trials", unlock)
    with pytest.raises(KeyboardInterrupt):
        storage.get_all_trials(0)


def test_a_study_is_none_the_wiser(storage: PatientStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="whole", directions=["minimize"] * 2)
    study.set_user_attr("a", [1])
    study.enqueue_trial({"x": 0.5})
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=3)
    assert study.trials[0].values == [0.5, 1.0]
    assert optuna.load_study(storage=storage, study_name="whole").user_attrs == {"a": [1]}
    optuna.delete_study(storage=storage, study_name="whole")
    assert [one.study_name for one in storage.get_all_studies()] == ["one"]


def test_who_has_no_time_asks_once(
    storage: PatientStorage,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert impatient(storage.inner) is storage.inner
    failing(monkeypatch, storage, "get_all_trials", iter([OSError("busy")]))
    with pytest.raises(StorageError, match="busy"):
        impatient(storage).get_all_trials(0)
    assert len(impatient(storage).get_all_trials(0)) == 1
    assert clock.now == 0
    assert capsys.readouterr().err == ""


def test_contact_begins_again_after_a_failure(
    storage: PatientStorage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact = storage.contact
    for _ in range(10):
        storage.get_all_trials(0)
        clock.now += 40
    assert contact.since == 0
    failing(monkeypatch, storage, "get_all_trials", iter([OSError("busy")] * 3))
    storage.get_all_trials(0)
    assert contact.since == clock.now == 403
    clock.now += 10
    failing(monkeypatch, storage, "set_trial_system_attr", iter([OSError("busy")]))
    with pytest.raises(StorageError):  # as the thread that shows signs of life
        impatient(storage).set_trial_system_attr(0, "a", 1)
    assert contact.since == 403
    clock.now += 1
    storage.get_all_trials(0)
    assert contact.since == clock.now == 414


def test_contact_begins_again_after_standing_still(storage: PatientStorage, clock: Clock) -> None:
    for pause, since in ((0, 0), (45, 0), (46, 91), (10, 91)):
        clock.now += pause
        storage.get_all_trials(0)
        assert storage.contact.since == since
