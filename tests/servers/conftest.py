"""Storages on real servers, and workers that share them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.servers.commands import Command
from tests.servers.servers import Place, PostgreSQL, Proxy, Redis
from tests.servers.workers import SPACE, Worker, Workers, past_tasks


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    pytest.importorskip("psycopg", reason="needs psycopg, the driver of PostgreSQL")
    with closing(PostgreSQL()) as server:
        server.start()
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    pytest.importorskip("redis", reason="needs redis, the client of Redis")
    with closing(Redis()) as server:
        server.start()
        yield server


_numbers = itertools.count()


@pytest.fixture(params=["postgresql", "redis", "grpc"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A storage on a server of each kind."""
    if request.param == "redis":
        redis: Redis = request.getfixturevalue("redis")
        yield Place(redis.url(next(_numbers)), redis)
        return
    if request.param == "grpc":
        pytest.importorskip("grpc", reason="needs grpcio, for Optuna's proxy of storages")
        pytest.importorskip("google.protobuf", reason="needs protobuf, for Optuna's proxy")
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    url = postgresql.create(f"test{next(_numbers)}")
    if request.param == "postgresql":
        yield Place(url, postgresql)
        return
    with closing(Proxy(url)) as proxy:
        proxy.start()
        yield Place(proxy.url, proxy)


@pytest.fixture(scope="session")
def _workers() -> Iterator[Workers]:
    with closing(Workers()) as workers:
        yield workers


@pytest.fixture
def start(_workers: Workers, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts ``optuna-peppp ARGUMENTS``, ``sample ARGUMENTS`` or ``example ARGUMENTS``."""
    started: list[Worker] = []

    def run(*arguments: str | Path | float, dead_after: float = 30) -> Worker:
        output = tmp_path / f"worker{len(started)}"
        started.append(_workers.start(output, *arguments, dead_after=dead_after))
        return started[-1]

    yield run
    for worker in started:
        if worker.code() is None:
            worker.kill()
            worker.wait()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set that trains in a blink: two classes that differ in brightness."""
    path = tmp_path_factory.mktemp("data") / "bright.npz"
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    images = rng.integers(0, 120, (40, 8, 8, 3)) + 100 * labels[:, None, None, None]
    pixels = images.astype(np.uint8)
    np.savez(
        path,
        train_images=pixels[:32],
        train_labels=labels[:32],
        test_images=pixels[32:],
        test_labels=labels[32:],
    )
    return f"npz:{path}"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The past tasks as a file."""
    path = tmp_path_factory.mktemp("corpus") / "past.csv"
    past_tasks().write_csv(path)
    return path


@pytest.fixture
def collect(place: Place, data: str, start: Callable[..., Worker]) -> Command:
    """Every third configuration on ``data``."""
    planned = range(0, len(SPACE), 3)
    pairs = ["/".join(map(str, SPACE.params(index).values())) for index in planned]
    choices = [word for pair in pairs for word in ("--configuration", pair)]
    options = ["--epochs", 1, "--image-size", 8, "--storage", place.url, *choices]
    worker = partial(start, "collect", data, *options)
    return Command(place, worker, len(planned), frozenset(planned))


@pytest.fixture
def tune(place: Place, data: str, corpus: Path, start: Callable[..., Worker]) -> Command:
    """Eight trials on ``data``."""
    experiment = ["--data", data, "--epochs", 1, "--image-size", 8, "--no-baseline"]
    learning = ["--corpus", corpus, "--rank", 1, "--trials", 8, "--storage", place.url]
    return Command(place, partial(start, "tune", *experiment, *learning), 8)
