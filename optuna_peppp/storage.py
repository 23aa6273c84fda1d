"""Where studies are kept: storages by name, and errors that say what to mend."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_HEARTBEAT: Final = 60
"""Seconds between signs of life of a running trial; without any, it counts as failed."""

_KINDS: Final = "a database URL such as sqlite:///tune.db or a journal file such as tune.journal"


def open_storage(storage: str, *, create: bool = False) -> BaseStorage:
    """Opens a database or a journal file.

    Args:
        storage: A database URL, or the path of a journal file.
        create: Whether to make the storage where there is none, for who is going to write.
            Who reads wants to hear that there is none, and leaves nothing behind.

    Raises:
        ValueError: The text names no storage, there is none, or it cannot be reached or read.
    """
    path = _file_of(storage)
    if not create and path is not None and not path.is_file():
        raise ValueError(f"there is no storage {shown(storage)}: the file {path} does not exist")
    with storage_errors(storage), experimental():
        if "://" in storage:
            return RDBStorage(
                storage, heartbeat_interval=_HEARTBEAT, skip_table_creation=not create
            )
        return _open_journal(str(path))


def load_studies(storage: str, prefix: str = "") -> list[optuna.Study]:
    """All studies of a storage whose names start with ``prefix``, by name.

    Raises:
        ValueError: The storage cannot be opened, or holds no such study.
    """
    opened = open_storage(storage)
    with storage_errors(storage):
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


def shown(storage: str) -> str:
    """The name of a storage for messages: without the password of a database.

    >>> shown("mysql://me:secret@host/studies")
    'mysql://me:***@host/studies'
    """
    try:
        return make_url(storage).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return storage


@contextmanager
def storage_errors(storage: str) -> Iterator[None]:
    """Turns what databases raise into one sentence.

    Raises:
        ValueError: Instead of an error of the storage, of its driver or of a missing driver.
    """
    try:
        yield
    except (SQLAlchemyError, ImportError, StorageInternalError, RuntimeError) as error:
        # The driver's own words, which SQLAlchemy and Optuna wrap in theirs.
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        reason = str(first).strip().splitlines()[0].rstrip(".")
        raise ValueError(
            f"storage {shown(storage)!r} cannot be opened by Optuna: {reason}. It must be {_KINDS}"
        ) from error


@contextmanager
def experimental() -> Iterator[None]:
    """Silences Optuna's warning that heartbeats and metric names may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _file_of(storage: str) -> Path | None:
    """The file that a storage is kept in, None for a database server or one in memory."""
    if "://" not in storage:
        path = Path(storage)
        if path.suffix not in (".journal", ".log"):
            raise ValueError(f"storage must be {_KINDS}; got {storage!r}")
        return path
    with storage_errors(storage):
        url = make_url(storage)
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file else None


def _open_journal(path: str) -> BaseStorage:
    backend = JournalFileBackend(path)  # outside of the try: a folder that is missing says so
    try:
        return JournalStorage(backend)
    except OSError:
        raise
    except Exception as problem:  # whatever a foreign file makes the reader raise
        raise ValueError(
            f"{path} is not a journal of Optuna, or it is damaged "
            f"({type(problem).__name__}: {problem}); name another storage"
        ) from problem
