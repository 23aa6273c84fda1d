from __future__ import annotations

import os
import re
import sqlite3
import threading
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import create_trial
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from optuna_peppp.studies import storage as module
from optuna_peppp.studies.patience import StorageError
from optuna_peppp.studies.storage import experimental, load_studies, open_storage

KINDS = ["sqlite:///{}/study.db", "{}/study.journal", "{}/study.log"]


def psycopg_error(state: str, text: str) -> Exception:
    error = Exception(text)
    error.sqlstate = state  # type: ignore[attr-defined]
    return error


def fill(storage: str, *names: str) -> None:
    opened = open_storage(storage, create=True)
    for number, name in enumerate(names):
        study = optuna.create_study(storage=opened, study_name=name)
        study.add_trial(create_trial(value=number / 10))


@pytest.mark.parametrize("kind", KINDS)
def test_studies_are_found_by_prefix_and_in_order(tmp_path: Path, kind: str) -> None:
    storage = kind.format(tmp_path)
    fill(storage, "plain3-fish", "resnet18-fish", "plain3-birds")
    assert [study.study_name for study in load_studies(storage)] == [
        "plain3-birds",
        "plain3-fish",
        "resnet18-fish",
    ]
    chosen = load_studies(storage, "plain3-")
    assert [study.best_value for study in chosen] == [0.2, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_wants_a_storage_and_makes_none(tmp_path: Path, kind: str) -> None:
    storage = kind.format(tmp_path)
    for read in (open_storage, load_studies):
        with pytest.raises(ValueError, match=r"there is no storage .*study\.\w+ does not exist"):
            read(storage)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_storage(tmp_path: Path) -> None:
    (tmp_path / "study.journal").mkdir()
    with pytest.raises(ValueError, match="there is no storage"):
        open_storage(f"{tmp_path}/study.journal")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_storage(tmp_path: Path, kind: str) -> None:
    storage = kind.format(tmp_path)
    open_storage(storage, create=True)
    with pytest.raises(ValueError, match="holds no study; `optuna-peppp tune --storage` fills it"):
        load_studies(storage)


def test_a_prefix_that_matches_nothing(tmp_path: Path) -> None:
    storage = f"{tmp_path}/study.journal"
    fill(storage, *(f"task {number:02}" for number in range(12)))
    with pytest.raises(ValueError, match=r"starts with 'plain3'; there are task 00, .*09, \.\.\."):
        load_studies(storage, "plain3")


def test_a_reader_writes_no_tables_into_a_database_of_others(tmp_path: Path) -> None:
    path = tmp_path / "others.db"
    path.touch()
    with pytest.raises(ValueError, match="cannot be opened by Optuna: no such table"):
        load_studies(f"sqlite:///{path}")
    assert path.stat().st_size == 0


@pytest.mark.parametrize("create", [True, False])
def test_files_that_are_no_storage(tmp_path: Path, create: bool) -> None:
    for name in ("text.db", "text.journal"):
        (tmp_path / name).write_text("task,error\nfish,0.5\nbirds,0.4\n" * 99)
    with pytest.raises(ValueError, match="cannot be opened by Optuna: file is not a database"):
        open_storage(f"sqlite:///{tmp_path}/text.db", create=create)
    with pytest.raises(ValueError, match=r"text\.journal is not a journal of Optuna"):
        open_storage(f"{tmp_path}/text.journal", create=create)


@pytest.mark.parametrize(
    ("storage", "problem"),
    [
        ("tune.txt", "storage must be a database URL .* got 'tune.txt'"),
        ("nosuch://host/x", "Can't load plugin: sqlalchemy.dialects:nosuch. It must be a database"),
        ("postgresql+nosuch://host/x", "cannot be opened by Optuna: Can't load plugin"),
        ("://", "cannot be opened by Optuna: Could not parse"),
        ("sqlite:////nosuch/folder/study.db", "cannot be opened.*unable to open database file"),
        ("/nosuch/folder/study.journal", "No such file or directory"),
        (f"sqlite:///{os.devnull}/study.db", "unable to open database file"),
        ("sqlite://host:port/x", "cannot be opened.*invalid literal"),
        ("sqlite:///:memory:?colour=red", "cannot be opened by Optuna: .*'colour'"),
        ("redis://127.0.0.1:1/0", "cannot be opened by Optuna: .*refused.* server running"),
        ("redis://127.0.0.1:1/0?colour=red", "cannot be opened by Optuna: .*colour"),
        ("redis://host:port", "cannot be opened by Optuna: "),
        ("grpc://", "a gRPC proxy has a host and a port, and nothing else"),
        ("grpc://host:1/study", "a gRPC proxy has a host and a port, and nothing else"),
        ("grpc://host:port", "cannot be opened by Optuna: "),
        ("postgresql+psycopg://127.0.0.1:1/x", "cannot be opened by Optuna: .* server running"),
        ("postgresql+psycopg://127.0.0.1:1/x?colour=red", 'invalid connection option "colour"'),
    ],
)
def test_storages_that_cannot_be_opened(storage: str, problem: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=problem) as caught:
        open_storage(storage, create=True)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No module named 'psycopg'"), "No module named 'psycopg'"),
        (OSError('could not translate host name "x"\nIs it running?'), "could not translate host"),
    ],
)
def test_the_reason_is_the_drivers(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that cannot be reached, without the network."""

    def fail(*_arguments: object, **_options: object) -> None:
        if isinstance(error, ImportError):
            raise ImportError("Failed to import DB access module") from error
        raise OperationalError("SELECT 1", {}, error) from error

    monkeypatch.setattr("optuna_peppp.studies.storage.RDBStorage", fail)
    with pytest.raises(ValueError, match=f"'mysql://h/x' cannot be opened by Optuna: {reason}"):
        load_studies("mysql://h/x")


def test_experimental_silences_nothing_else() -> None:
    with experimental():
        warnings.warn("heartbeat", ExperimentalWarning, stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("other", UserWarning, stacklevel=1)


def test_a_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc")
    monkeypatch.setattr(module, "_CONNECTS_WITHIN", 0.1)
    with pytest.raises(ValueError, match=r"no gRPC proxy answers within .* server running"):
        open_storage("grpc://127.0.0.1:1")


@pytest.mark.parametrize(("storage", "package"), [("redis://h", "redis"), ("grpc://h", "grpc")])
def test_a_package_that_is_missing(
    storage: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}")

    monkeypatch.setattr(module, "RedisJournal", missing)
    monkeypatch.setattr(module, "TimelyProxy", missing)
    with pytest.raises(ValueError, match=rf'pip install "optuna_peppp\[{package}\]"$'):
        open_storage(storage)


def test_options_that_a_driver_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object, **__: object) -> None:
        raise TypeError("Connection.__init__() got an unexpected keyword argument 'colour'")

    monkeypatch.setattr(module, "RDBStorage", connect)
    with pytest.raises(ValueError, match="unexpected keyword argument 'colour'"):
        open_storage("mysql://h/x?colour=red")


@pytest.mark.parametrize(
    ("storage", "timeouts"),
    [
        ("postgresql+psycopg://h/x", {"connect_timeout": 10}),
        ("postgresql://h/x", {"connect_timeout": 10}),
        ("postgresql+psycopg://h/x?connect_timeout=3", {}),
        ("mysql://h/x", {"connect_timeout": 10}),
        ("mysql+pymysql://h/x", {"connect_timeout": 10, "read_timeout": 60}),
        ("mysql+pymysql://h/x?connect_timeout=3", {"read_timeout": 60}),
        ("mysql+mysqlconnector://h/x", {"connection_timeout": 10}),
        ("mariadb+pymysql://h/x", {"connect_timeout": 10, "read_timeout": 60}),
        ("sqlite://", {}),
    ],
)
def test_servers_that_never_answer_are_not_waited_for(
    storage: str, timeouts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(_url: str, options: dict[str, Any], **_: object) -> None:
        raise TypeError(f"options {options}")

    monkeypatch.setattr(module, "RDBStorage", connect)
    options = re.escape(str({"connect_args": timeouts}))
    with pytest.raises(ValueError, match=f"cannot be opened by Optuna: options {options}"):
        open_storage(storage)


@pytest.mark.parametrize(
    ("storage", "problem", "remedy"),
    [
        (
            "redis://host:6379/0",
            "HELLO must be called with the client already authenticated",
            "The URL gives no password: write redis://USER:PASSWORD@host:6379/0",
        ),
        ("redis://:hunter2@host:6379/0", "invalid pair", "Are user and password right?"),
        (
            "postgresql+psycopg://me@host/x",
            "fe_sendauth: no password supplied",
            "The URL gives no password: write postgresql+psycopg://USER:PASSWORD@host/x",
        ),
        (
            "postgresql+psycopg://me:hunter2@host/x",
            'password authentication failed for user "me"',
            "Are user and password right?",
        ),
    ],
)
def test_who_may_not_log_in(
    storage: str, problem: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = pytest.importorskip("redis")

    def refuse(*_: object, **__: object) -> None:
        if storage.startswith("redis"):
            raise redis.AuthenticationError(problem)
        raise OperationalError("SELECT 1", {}, Exception(problem))

    monkeypatch.setattr(module, "RDBStorage", refuse)
    monkeypatch.setattr(module, "RedisJournal", refuse)
    with pytest.raises(ValueError, match=rf"{re.escape(problem)}\. {re.escape(remedy)}$"):
        open_storage(storage)


def test_all_who_make_one_database_at_once_succeed(tmp_path: Path) -> None:
    for attempt in range(3):
        storage = f"sqlite:///{tmp_path}/{attempt}.db"
        together = threading.Barrier(4)

        def make(storage: str = storage, together: threading.Barrier = together) -> None:
            together.wait()
            open_storage(storage, create=True)

        with ThreadPoolExecutor(4) as pool:
            for made in [pool.submit(make) for _ in range(4)]:
                made.result()
        optuna.create_study(storage=open_storage(storage), study_name="one")


@pytest.mark.parametrize(
    "problem",
    [
        OperationalError("CREATE TABLE x", {}, Exception("table x already exists")),
        ProgrammingError("CREATE TABLE x", {}, psycopg_error("42P07", "x existiert bereits")),
        IntegrityError("INSERT", {}, Exception("duplicate key")),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_tables_that_others_are_making(
    problem: Exception, create: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, real = iter([problem] * 3), RDBStorage

    def racing(*arguments: Any, **options: Any) -> RDBStorage:
        for failure in failures:
            raise failure
        return real(*arguments, **options)

    monkeypatch.setattr(module, "RDBStorage", racing)
    monkeypatch.setattr("optuna_peppp.studies.storage.time.sleep", lambda _: None)
    if create:
        open_storage("sqlite://", create=True)
    else:
        with pytest.raises(ValueError, match="cannot be opened by Optuna"):
            open_storage("sqlite://")


@pytest.mark.parametrize("table", ["version_info", "trials", "studies"])
def test_a_missing_table_is_one_sentence(tmp_path: Path, table: str) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    fill(storage, "one")
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute(f"DROP TABLE {table}")

    def read() -> None:
        for study in load_studies(storage):
            study.get_trials()

    with pytest.raises((ValueError, StorageError), match=f"no such table: {table}") as caught:
        read()
    assert len(str(caught.value).splitlines()) == 1


def test_a_locked_database_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    fill(storage, "one")
    with closing(sqlite3.connect(tmp_path / "study.db", check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(6, other.rollback)  # SQLite itself waits five seconds
        timer.start()
        assert [study.study_name for study in load_studies(storage)] == ["one"]
        timer.join()
    told = capsys.readouterr().err
    assert f"Waiting up to 60 seconds for {storage}: database is locked" in told


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql+nosuch://me:hunter2@host/studies",
        "postgresql+psycopg://127.0.0.1:1/db?user=me&password=hunter2",
        "postgresql+psycopg://me:s3@hunter2@127.0.0.1:1/db",
        "postgresql//me:hunter2@host/db",
        "my_sql!://me:hunter2@host/db",
        "postgresql://me:hunter2",
        "redis://:hunter2@127.0.0.1:1/0",
        "redis://me:hun/hunter2@127.0.0.1:1/0",
        "grpc://me:hunter2@host:13000",
        "grpc://host:hunter2",
    ],
)
def test_a_password_is_never_shown(storage: str) -> None:
    with pytest.raises(ValueError, match="storage") as caught:
        open_storage(storage, create=True)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
