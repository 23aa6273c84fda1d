"""The sampler in two processes on one study, while one is killed or the server restarts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import optuna
import pytest
from optuna.trial import TrialState

from tests.servers.servers import Place
from tests.servers.workers import (
    SPACE,
    TASK,
    Worker,
    close,
    has_completed,
    storage_of,
    trials_in,
    until,
)

EACH = len(SPACE) // 2 - 1
"""Trials of a worker, so that two of them do not come to the end of the space."""

NEVER = -1
"""No trial to stay in."""


@pytest.fixture
def study(place: Place) -> Place:
    """A study of two objectives without a trial."""
    storage = storage_of(place.url)
    optuna.create_study(study_name=TASK, storage=storage, directions=["minimize", "minimize"])
    close(storage)
    return place


def configurations(study: Place, *states: TrialState) -> Counter[int]:
    """How many trials of these states each configuration has."""
    return Counter(SPACE.index(trial.params) for trial in trials_in(study.url, *states))


def test_two_workers_share_a_study(study: Place, start: Callable[..., Worker]) -> None:
    workers = [start("sample", study.url, EACH, NEVER) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0], [w.said() for w in workers]
    trials = configurations(study)
    assert trials == configurations(study, TrialState.COMPLETE)
    assert trials.total() == len(trials) == 2 * EACH


def test_a_kill_loses_one_trial(study: Place, start: Callable[..., Worker]) -> None:
    victim = start("sample", study.url, len(SPACE), 3)
    until(victim.is_stuck, victim)
    other = start("sample", study.url, len(SPACE) - 4, NEVER)
    until(partial(has_completed, study.url, 5), victim, other)
    victim.kill()
    assert other.wait() == 0, other.said()
    # All that is free was measured: what the victim was at comes last.
    (lost,) = configurations(study, TrialState.RUNNING)
    made = configurations(study, TrialState.COMPLETE)
    assert made == Counter(set(range(len(SPACE))) - {lost})
    last = start("sample", study.url, 1, NEVER)
    assert last.wait() == 0, last.said()
    assert configurations(study, TrialState.COMPLETE) == Counter(range(len(SPACE)))


def test_a_restart_of_the_server(study: Place, start: Callable[..., Worker]) -> None:
    workers = [start("sample", study.url, EACH, NEVER) for _ in range(2)]
    until(partial(has_completed, study.url, 2), *workers)
    study.server.restart(1)
    # Optuna's own loop gives up when its storage fails, and the user starts it again.
    assert {worker.wait() for worker in workers} <= {0, 1}, [w.said() for w in workers]
    before = configurations(study, TrialState.COMPLETE)
    assert 2 <= before.total() == len(before)
    again = start("sample", study.url, len(SPACE), NEVER)
    assert again.wait() == 0, again.said()
    assert configurations(study, TrialState.COMPLETE) == Counter(range(len(SPACE)))
