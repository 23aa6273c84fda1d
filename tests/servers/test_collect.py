"""`collect` in two processes on one storage: exactly once, whatever is killed or restarted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.servers.servers import Place
from tests.servers.workers import SPACE, Worker, has_completed, trials_in, until

PLANNED = range(0, len(SPACE), 3)

DEAD_AFTER = 3.0
"""Seconds, where a worker is killed."""


@pytest.fixture
def collect(place: Place, data: str, start: Callable[..., Worker]) -> Callable[..., Worker]:
    """Starts a worker that measures the same as the others; with further options."""
    pairs = ["/".join(map(str, SPACE.params(index).values())) for index in PLANNED]
    choices = [word for pair in pairs for word in ("--configuration", pair)]
    options = ["--epochs", 1, "--image-size", 8, "--storage", place.url, *choices]
    return partial(start, "collect", data, *options)


def check(place: Place, workers: list[Worker], codes: list[int], *, repeated: int) -> None:
    """How the workers end, and that everything is measured once.

    Args:
        place: The storage.
        workers: All of them.
        codes: Their exit codes.
        repeated: How many trainings may have been lost.
    """
    ended = [worker.wait() for worker in workers]
    said = "\n".join(worker.said() for worker in workers)
    assert ended == codes, said
    assert "Traceback" not in said
    complete = trials_in(place.url, TrialState.COMPLETE)
    assert Counter(SPACE.index(trial.params) for trial in complete) == Counter(PLANNED)
    assert not trials_in(place.url, TrialState.RUNNING, TrialState.WAITING)
    trainings = sum(worker.trainings() for worker in workers)
    assert len(PLANNED) <= trainings <= len(PLANNED) + repeated, said


def test_two_workers_share_a_corpus(place: Place, collect: Callable[..., Worker]) -> None:
    workers = [collect() for _ in range(2)]  # at once: both make the storage
    check(place, workers, [0, 0], repeated=0)
    assert all(worker.trainings() for worker in workers)
    check(place, [*workers, collect()], [0, 0, 0], repeated=0)


def test_a_kill_loses_one_training(place: Place, collect: Callable[..., Worker]) -> None:
    victim, _ = workers = [collect(dead_after=DEAD_AFTER) for _ in range(2)]
    until(lambda: victim.trainings() >= 2, *workers)
    victim.kill()
    check(place, workers, [-9, 0], repeated=1)
    again = collect()
    check(place, [*workers, again], [-9, 0, 0], repeated=1)
    assert again.trainings() == 0


def test_a_restart_of_the_server_is_waited_for(
    place: Place, collect: Callable[..., Worker]
) -> None:
    workers = [collect() for _ in range(2)]
    until(partial(has_completed, place.url, 1), *workers)
    place.server.restart(3)
    assert not has_completed(place.url, len(PLANNED))
    check(place, workers, [0, 0], repeated=0)


def test_nobody_dies_of_a_long_restart(place: Place, collect: Callable[..., Worker]) -> None:
    """Who could not show a sign of life for want of a server is not taken for dead."""
    workers = [collect(dead_after=DEAD_AFTER) for _ in range(2)]
    # By then they have seen each other's trials, whose clocks run.
    until(partial(has_completed, place.url, 3), *workers)
    place.server.restart(2 * DEAD_AFTER)
    check(place, workers, [0, 0], repeated=0)


def test_what_was_collected_is_learned_from(
    place: Place, collect: Callable[..., Worker], start: Callable[..., Worker], tmp_path: Path
) -> None:
    exported = tmp_path / "corpus.csv"
    collecting = collect("--export", exported)
    assert collecting.wait() == 0, collecting.said()
    assert len(exported.read_text().splitlines()) == 1 + len(PLANNED)
    sources = ["--storage", place.url, "--corpus", "plain3-cifar100"]
    fit = start("fit", *sources, "--rank", 1, "--output", tmp_path / "learned.npz")
    assert fit.wait() == 0, fit.said()
    assert "Learned from 21 tasks" in fit.said()
