"""`tune` in two processes on one study: exactly so many, whatever is killed or restarted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.servers.servers import Place
from tests.servers.workers import SPACE, Worker, has_completed, trials_in, until

TRIALS = 8

DEAD_AFTER = 3.0
"""Seconds, where a worker is killed."""


@pytest.fixture
def tune(
    place: Place, data: str, corpus: Path, start: Callable[..., Worker]
) -> Callable[..., Worker]:
    """Starts a worker on the same study as the others; with further options."""
    experiment = ["--data", data, "--epochs", 1, "--image-size", 8, "--no-baseline"]
    learning = ["--corpus", corpus, "--rank", 1]
    return partial(start, "tune", *experiment, *learning, "--storage", place.url)


def check(place: Place, workers: list[Worker], codes: list[int], *, repeated: int) -> None:
    """How the workers end, and that so many configurations are measured once.

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
    made = Counter(SPACE.index(trial.params) for trial in complete)
    assert made.total() == len(made) == TRIALS, said
    assert not trials_in(place.url, TrialState.RUNNING, TrialState.WAITING)
    trainings = sum(worker.trainings() for worker in workers)
    assert TRIALS <= trainings <= TRIALS + repeated, said


def conclusion(path: Path) -> Any:
    """All predictions and the recommendation."""
    return json.loads(path.read_text())


def test_two_workers_make_so_many_together(
    place: Place, tune: Callable[..., Worker], start: Callable[..., Worker], tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.json" for number in range(4)]
    workers = [tune("--trials", TRIALS, "--json", file) for file in files[:2]]
    check(place, workers, [0, 0], repeated=0)
    again = tune("--trials", TRIALS, "--json", files[2])
    check(place, [*workers, again], [0, 0, 0], repeated=0)
    recommend = start("recommend", "--storage", place.url, "--json", files[3])
    assert recommend.wait() == 0, recommend.said()
    # Whoever ends first waits for the others, and all come to the same end.
    first, *others = map(conclusion, files)
    assert all(other == first for other in others)


def test_a_kill_loses_one_training(place: Place, tune: Callable[..., Worker]) -> None:
    victim, _ = workers = [tune("--trials", TRIALS, dead_after=DEAD_AFTER) for _ in range(2)]
    until(lambda: victim.trainings() >= 2, *workers)
    victim.kill()
    check(place, workers, [-9, 0], repeated=1)
    check(place, [*workers, tune("--trials", TRIALS)], [-9, 0, 0], repeated=1)


def test_a_restart_of_the_server_is_waited_for(place: Place, tune: Callable[..., Worker]) -> None:
    workers = [tune("--trials", TRIALS) for _ in range(2)]
    until(partial(has_completed, place.url, 1), *workers)
    place.server.restart(3)
    assert not has_completed(place.url, TRIALS)
    check(place, workers, [0, 0], repeated=0)


def test_nobody_dies_of_a_long_restart(place: Place, tune: Callable[..., Worker]) -> None:
    """Who could not show a sign of life for want of a server is not taken for dead."""
    workers = [tune("--trials", TRIALS, dead_after=DEAD_AFTER) for _ in range(2)]
    # By then they have seen each other's trials, whose clocks run.
    until(partial(has_completed, place.url, 3), *workers)
    place.server.restart(2 * DEAD_AFTER)
    check(place, workers, [0, 0], repeated=0)


def test_what_was_tuned_is_learned_from(
    place: Place,
    tune: Callable[..., Worker],
    start: Callable[..., Worker],
    corpus: Path,
    tmp_path: Path,
) -> None:
    tuning = tune("--trials", 2)
    assert tuning.wait() == 0, tuning.said()
    sources = ["--storage", place.url, "--corpus", corpus]
    fit = start("fit", *sources, "--rank", 1, "--output", tmp_path / "learned.npz")
    assert fit.wait() == 0, fit.said()
    assert "Learned from 5 tasks" in fit.said()
