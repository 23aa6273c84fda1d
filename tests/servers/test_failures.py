"""Servers that cannot be used: one sentence in bounded time, exit code 2, and no password."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.servers import HOST, QUOTED, PostgreSQL, Redis
from tests.servers.workers import Worker

KINDS = {
    "postgresql": ("psycopg", f"postgresql+psycopg://peppp:{QUOTED}@{HOST}:{{}}/test"),
    "redis": ("redis", f"redis://:{QUOTED}@{HOST}:{{}}/0"),
    "grpc": ("grpc", f"grpc://{HOST}:{{}}"),
}
"""The drivers, and the URLs of servers on a port."""


@pytest.fixture
def refused(
    start: Callable[..., Worker], data: str, corpus: Path, tmp_path: Path
) -> Callable[[str], str]:
    """Runs all commands on a storage that cannot be used, and checks how they say so."""
    commands: list[list[str | Path | float]] = [
        ["collect", data],
        ["tune", "--data", data, "--corpus", corpus, "--rank", 1],
        ["recommend"],
        ["fit", "--output", tmp_path / "learned.npz"],
    ]

    def check(storage: str) -> str:
        sentences = set()
        for worker in [start(*command, "--storage", storage) for command in commands]:
            assert worker.wait(60) == 2, worker.said()
            *before, sentence = worker.said().splitlines()
            assert sentence.startswith("Error: "), worker.said()
            assert not any(line.startswith(("Error", "Traceback")) for line in before)
            for secret in ("w0rd", "characters", "wr0ng"):
                assert secret not in worker.said()
            sentences.add(sentence)
        assert len(sentences) == 1, sentences
        return sentence

    return check


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a server of each kind, but for its port."""
    driver, url = KINDS[request.param]
    pytest.importorskip(driver, reason=f"needs the driver {driver}")
    return url


@pytest.fixture
def closed() -> Iterator[int]:
    """A port that nobody listens on, and nobody else can take."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        yield bound.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes calls and never answers."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_server_that_is_down(refused: Callable[[str], str], url: str, closed: int) -> None:
    refused(url.format(closed))


def test_a_server_that_never_answers(refused: Callable[[str], str], url: str, silent: int) -> None:
    refused(url.format(silent))


def test_a_wrong_password_for_postgresql(
    refused: Callable[[str], str], postgresql: PostgreSQL
) -> None:
    said = refused(postgresql.url("postgres", "wr0ng"))
    assert "password authentication failed" in said
    assert "Are user and password right?" in said


def test_a_wrong_password_for_redis(refused: Callable[[str], str], redis: Redis) -> None:
    assert "invalid username-password pair" in refused(redis.url(0, "wr0ng"))


def test_no_password_for_redis(refused: Callable[[str], str], redis: Redis) -> None:
    server = f"{HOST}:{redis.port}/0"
    wanted = f"The URL gives no password: write redis://USER:PASSWORD@{server}"
    assert wanted in refused(f"redis://{server}")


def test_a_database_that_postgresql_does_not_have(
    refused: Callable[[str], str], postgresql: PostgreSQL
) -> None:
    assert '"nosuch" does not exist' in refused(postgresql.url("nosuch"))


def test_a_database_that_redis_does_not_have(refused: Callable[[str], str], redis: Redis) -> None:
    assert "DB index is out of range" in refused(redis.url(redis.DATABASES))
