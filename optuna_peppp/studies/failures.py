"""What storages raise when they fail: whether it may pass by itself, and its reason in a line."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Iterator
from errno import ENAMETOOLONG, EROFS
from typing import Final

from optuna.exceptions import StorageInternalError
from sqlalchemy import exc

from optuna_peppp.studies.credentials import has_password, without_passwords

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

_LOGIN: Final = re.compile("password authentication failed|no password supplied|Access denied for")
"""What databases say to who may not log in."""

_GRPC_LASTING: Final = ("PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED")


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


def asks_for_login(problem: BaseException) -> bool:
    """Whether a server wants a password, or another one."""
    redis = _of_package("redis", "AuthenticationError")
    return any(isinstance(link, redis) or _LOGIN.search(str(link)) for link in links(problem))


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


def _of_package(package: str, name: str) -> tuple[type[Exception], ...]:
    """An error of a package, if that was ever imported."""
    found = getattr(sys.modules.get(package), name, None)
    return () if found is None else (found,)
