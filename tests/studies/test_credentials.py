from __future__ import annotations

from urllib.parse import quote

import pytest

from optuna_peppp.studies.credentials import has_password, shown, without_passwords

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("grpc://me:hunter2@host:13000", "grpc://me:***@host:13000"),
        ("mysql+pymysql://me:s3@hunter2@host/db", "mysql+pymysql://me:***@host/db"),
        ("postgresql://me:a?b/hunter2#@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p%40hunter2@host", "postgresql://me:***@host"),
        ("postgresql://h/db?user=me&password=hunter2", "postgresql://h/db?user=me&password=***"),
        ("postgresql://h/db?sslpassword=hunter2&x=1", "postgresql://h/db?sslpassword=***&x=1"),
        ("postgresql://h/db?PassWd=hunter2", "postgresql://h/db?PassWd=***"),
        ("mysql://h/db?pwd=hunter2", "mysql://h/db?pwd=***"),
        ("mysql://h/db?auth_token=hunter2", "mysql://h/db?auth_token=***"),
        ("postgresql://h/db?pass%77ord=hunter2", "postgresql://h/db?pass%77ord=***"),
        ("redis://h?password=hunter2@x", "redis://h?password=***"),
        # What no parser accepts.
        ("postgresql//me:hunter2@host/db", "postgresql//me:***@host/db"),
        ("my_sql!://me:hunter2@host/db", "my_sql!://me:***@host/db"),
        ("postgresql://me:hunter2", "postgresql://me:***"),
        ("postgresql://me:hunter2/db", "postgresql://me:***/db"),
        ("host=h password=hunter2 user=me", "host=h password=*** user=me"),
    ],
)
def test_passwords_are_hidden(storage: str, expected: str) -> None:
    assert shown(storage) == expected
    assert has_password(storage)


@pytest.mark.parametrize(
    "storage",
    [
        "tune.journal",
        "/some/folder/tune.log",
        "sqlite:///tune.db",
        "sqlite:////home/me:you@work/tune.db",
        "postgresql://me@host:5432/db",
        "postgresql://one:1,other:2/db?connect_timeout=3",
        "redis://[::1]:6379/0",
        "://",
    ],
)
def test_what_is_no_password_is_shown(storage: str) -> None:
    assert shown(storage) == storage
    assert not has_password(storage)


@pytest.mark.parametrize("password", [SECRET, "a b@/?#%&=:+", "p", "ünïcode"])
def test_texts_lose_the_password_however_it_is_spelt(password: str) -> None:
    storage = f"postgresql://me:{quote(password, safe='')}@host/db"
    for spelling in (password, quote(password), quote(password, safe="")):
        text = without_passwords(f"cannot open {storage}: '{spelling}' is wrong", storage)
        assert text == "cannot open postgresql://me:***@host/db: '***' is wrong"


def test_a_part_that_a_driver_takes_for_the_host() -> None:
    storage = "postgresql://me:s3@hunter2@127.0.0.1:1/db"
    text = without_passwords("failed to resolve host 'hunter2@127.0.0.1'", storage)
    assert text == "failed to resolve host '***@127.0.0.1'"
