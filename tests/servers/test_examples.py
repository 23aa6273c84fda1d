"""The example of several machines: two workers on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

from tests.servers.servers import PostgreSQL
from tests.servers.workers import Worker, close, storage_of, trials_in


def test_workers_share_a_study(postgresql: PostgreSQL, start: Callable[..., Worker]) -> None:
    url = postgresql.create("examples")
    close(storage_of(url))  # the tables are there
    workers = [start("example", url, "--epochs", 1, "--trials", 2) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0], [w.said() for w in workers]
    assert all("Recommendation(" in worker.said() for worker in workers)
    trials = trials_in(url)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert len({tuple(trial.params.items()) for trial in trials}) == 4
