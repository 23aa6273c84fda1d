"""Where studies are kept: storages by name, and errors that say what to mend."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SAWarning

from optuna_peppp.studies.credentials import has_password, shown
from optuna_peppp.studies.failures import (
    asks_for_login,
    cause_of,
    links,
    may_pass,
    reason_of,
)
from optuna_peppp.studies.journal import FileJournal, RedisJournal
from optuna_peppp.studies.patience import Pace, PatientStorage, patiently
from optuna_peppp.studies.proxy import TimelyProxy

_CONNECTS_WITHIN: Final = 10
"""Seconds within which a server has to answer when it is asked first."""

_READS_WITHIN: Final = 60
"""Seconds within which MySQL has to answer a driver that does not count them while connecting."""

_TIMEOUTS: Final[dict[str, dict[str, int]]] = {
    "psycopg": {"connect_timeout": _CONNECTS_WITHIN},
    "psycopg2": {"connect_timeout": _CONNECTS_WITHIN},
    "mysqldb": {"connect_timeout": _CONNECTS_WITHIN},
    "pymysql": {"connect_timeout": _CONNECTS_WITHIN, "read_timeout": _READS_WITHIN},
    "mysqlconnector": {"connection_timeout": _CONNECTS_WITHIN},
}
"""What drivers of databases, by SQLAlchemy's names, call the time to wait for a server that takes
the connection and never answers; they wait for ever without."""

_ATTEMPTS: Final = 10
"""How often a database is opened whose tables others are making."""

_GRPC_PORT: Final = 13000
"""Where Optuna's gRPC proxy listens by default."""

_KINDS: Final = (
    "a database URL such as sqlite:///tune.db, a journal file such as tune.journal, a Redis server "
    "such as redis://host:6379/0 or Optuna's gRPC proxy such as grpc://host:13000"
)


def open_storage(storage: str, *, create: bool = False, pace: Pace | None = None) -> BaseStorage:
    """Opens a storage, which is then asked patiently (:class:`PatientStorage`).

    Args:
        storage: A database URL, the path of a journal file, the URL of a Redis server (whose
            database holds one journal) or of Optuna's gRPC proxy.
        create: Whether to make the storage where there is none, for who is going to write.
            Who reads wants to hear that there is none, and leaves nothing behind.
        pace: How long to wait for a storage that fails; by default :class:`Pace`.

    Raises:
        ValueError: The text names no storage, there is none, or it cannot be reached or read.
        OSError: A journal file can be neither opened nor made.
    """
    pace = pace or Pace()
    path = file_of(storage)
    if not create and path is not None and not path.is_file():
        raise ValueError(f"there is no storage {shown(storage)}: the file {path} does not exist")
    try:
        with experimental(), warnings.catch_warnings():
            warnings.simplefilter("error", SAWarning)  # of options that it does not know
            opened = patiently(lambda: _open(storage, create, path), _is_busy, storage, pace)
    except Exception as problem:  # whatever drivers make of URLs, servers and files
        if _scheme(storage) is None:  # of a journal file: a sentence already
            raise
        raise ValueError(
            f"storage {shown(storage)!r} cannot be opened by Optuna: "
            f"{reason_of(problem, storage)}. {_remedy(storage, problem)}"
        ) from cause_of(problem, storage)
    return PatientStorage(opened, storage, pace)


def load_studies(storage: str, prefix: str = "") -> list[optuna.Study]:
    """All studies of a storage whose names start with ``prefix``, by name.

    Raises:
        ValueError: The storage cannot be opened, or holds no such study.
        StorageError: The storage fails.
    """
    opened = open_storage(storage)
    names = sorted(study.study_name for study in opened.get_all_studies())
    chosen = [name for name in names if name.startswith(prefix)]
    if not names:
        raise ValueError(
            f"storage {shown(storage)} holds no study; `optuna-peppp tune --storage` fills it"
        )
    if not chosen:
        raise ValueError(
            f"no study of {shown(storage)} has a name that starts with {prefix!r}; there are "
            f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        )
    return [optuna.load_study(storage=opened, study_name=name) for name in chosen]


@contextmanager
def experimental() -> Iterator[None]:
    """Silences Optuna's warning that heartbeats and metric names may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _scheme(storage: str) -> str | None:
    """What a URL begins with, None for a path."""
    scheme, separator, _ = storage.partition("://")
    return scheme.lower() if separator else None


def file_of(storage: str) -> Path | None:
    """The file that a storage is kept in, None for a server or a database in memory.

    Raises:
        ValueError: The text names no storage.
    """
    scheme = _scheme(storage)
    if scheme is None:
        path = Path(storage)
        if path.suffix not in (".journal", ".log"):
            raise ValueError(f"storage must be {_KINDS}; got {shown(storage)!r}{_meant(storage)}")
        return path
    if scheme.partition("+")[0] != "sqlite":
        return None
    with suppress(ArgumentError, ValueError):  # which opening it will raise again
        database = make_url(storage).database
        return None if database in (None, "", ":memory:") else Path(str(database))
    return None


def _meant(storage: str) -> str:
    """The name that was probably meant by a path that names no storage."""
    if any(mark in storage for mark in ":@?&"):  # a URL that lost its slashes
        return ""
    suffix = Path(storage).suffix
    if suffix in (".db", ".sqlite", ".sqlite3"):
        return f". Did you mean sqlite:///{storage}?"
    return "" if suffix or not storage else f". Did you mean {storage}.journal?"


def _open(storage: str, create: bool, path: Path | None) -> BaseStorage:
    match _scheme(storage):
        case None:
            return _journal(str(path))
        case "redis" | "rediss":
            return JournalStorage(RedisJournal(storage))
        case "grpc":
            return _proxy(storage)
    return _database(storage, create)


def _journal(path: str) -> BaseStorage:
    journal = FileJournal(path)
    try:
        return JournalStorage(journal)
    except OSError:
        raise
    except Exception as problem:  # whatever a foreign file makes the reader raise
        raise ValueError(
            f"{path} is not a journal of Optuna, or it is damaged: line {journal.line} is no entry "
            f"({type(problem).__name__}). It was left as it is"
        ) from problem


def _proxy(storage: str) -> BaseStorage:
    url = urlsplit(storage)
    if not url.hostname or url.username or url.query or url.path not in ("", "/"):
        raise ValueError("a gRPC proxy has a host and a port, and nothing else")
    proxy = TimelyProxy(host=url.hostname, port=url.port or _GRPC_PORT)
    try:
        proxy.wait_server_ready(_CONNECTS_WITHIN)
    except ConnectionError:
        raise ConnectionError(f"no gRPC proxy answers within {_CONNECTS_WITHIN} s") from None
    return proxy


def _database(storage: str, create: bool) -> BaseStorage:
    """A database; others may be making its tables at the same time."""
    options = {"connect_args": _timeouts(storage)}
    for attempt in range(1, _ATTEMPTS):
        try:
            return get_storage(RDBStorage(storage, options, skip_table_creation=not create))
        except Exception as problem:
            if not create or not any(map(_was_faster, links(problem))):
                raise
            time.sleep(0.1 * attempt)
    return get_storage(RDBStorage(storage, options, skip_table_creation=not create))


def _timeouts(storage: str) -> dict[str, int]:
    """Options of a database's driver, but for those that the URL gives itself."""
    url = make_url(storage)
    timeouts = _TIMEOUTS.get(url.get_driver_name(), {})
    return {name: seconds for name, seconds in timeouts.items() if name not in url.query}


def _was_faster(problem: BaseException) -> bool:
    """Whether an error says that a table, or its only row, is there already."""
    if isinstance(problem, IntegrityError):
        return True
    if not isinstance(problem, DBAPIError):
        return False
    # PostgreSQL says it in the server's language.
    duplicate = getattr(problem.orig, "sqlstate", None) == "42P07"
    return duplicate or "already exists" in str(problem.orig)


def _is_busy(problem: Exception) -> bool:
    """Whether a database is there and used by others; a server may not be there at all."""
    return may_pass(problem) and any(isinstance(link, sqlite3.Error) for link in links(problem))


def _remedy(storage: str, problem: Exception) -> str:
    if any(isinstance(link, ImportError) for link in links(problem)):
        extra = {"redis": "redis", "rediss": "redis", "grpc": "grpc"}.get(_scheme(storage) or "")
        wanted = f'pip install "optuna_peppp[{extra}]"' if extra else "install that driver"
        return f"To use such a storage, {wanted}"
    if asks_for_login(problem):
        if has_password(storage):
            return "Are user and password right?"
        scheme, _, rest = storage.partition("://")
        return f"The URL gives no password: write {scheme}://USER:PASSWORD@{rest.split('@')[-1]}"
    if may_pass(problem):
        return "Is the server running, and can it be reached from here?"
    return f"It must be {_KINDS}"
