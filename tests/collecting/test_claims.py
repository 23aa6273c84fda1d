from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import OperationalError

from optuna_peppp.collecting.claims import Claim, Claims
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.studies.life import SIGN, fail
from optuna_peppp.studies.patience import Pace, PatientStorage, StorageError
from optuna_peppp.studies.storage import open_storage
from optuna_peppp.studies.trials import read_trials

SPACE = ConfigurationSpace({"format_a": ["1-4-3", "1-5-3"], "format_b": ["1-6-7", "1-6-9"]})
DEAD_AFTER = Pace().dead_after
PLANNED = [(0, 0), (1, 0), (2, 0)]

Join = Callable[..., Claims]


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite:///{}/study.db", "{}/study.journal"])
def join(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Join:
    """Lets another worker, with a connection of its own, join in the work on one study."""
    storage = request.param.format(tmp_path)
    optuna.create_study(
        study_name="task",
        storage=open_storage(storage, create=True),
        directions=["minimize", "minimize"],
    )

    def worker(name: str, sign_every: float = 15.0) -> Claims:
        pace = Pace(sign_every=sign_every, clock=lambda: clock.now, sleep=clock.sleep)
        opened = open_storage(storage, pace=pace)
        return Claims(optuna.load_study(study_name="task", storage=opened), SPACE, name, pace)

    return worker


def take(worker: Claims, planned: list[tuple[int, int]] | None = None) -> Claim:
    claim = worker.take(PLANNED if planned is None else planned, {})
    assert claim is not None
    return claim


def states(worker: Claims) -> list[TrialState]:
    return [trial.state for trial in read_trials(worker._study)]


def inner(worker: Claims) -> BaseStorage:
    """The storage itself, without patience."""
    assert isinstance(worker._storage, PatientStorage)
    return worker._storage.inner


def pass_time(clock: Clock, worker: Claims, seconds: float) -> None:
    """Lets time pass in which a worker looks at the storage now and then."""
    for _ in range(3):
        clock.now += seconds / 3
        worker.held()


def before_the_next(
    monkeypatch: pytest.MonkeyPatch, worker: Claims, method: str, act: Callable[[], object]
) -> None:
    """Does something right before the next call of a method of a worker's storage."""
    real, acts = getattr(worker._storage, method), iter([act])

    def late(*arguments: Any) -> Any:
        for first in acts:
            first()
        return real(*arguments)

    monkeypatch.setattr(worker._storage, method, late)


def test_a_measurement_from_its_claim_to_its_result(join: Join) -> None:
    one, other = join("one"), join("other")
    claim = one.take([(1, 7), (0, 7)], {"device": "abacus"})
    assert claim is not None
    assert claim.key == (1, 7)
    (running,) = other.held().running.values()
    assert running.params == SPACE.params(1)
    assert running.distributions == SPACE.distributions()
    assert running.user_attrs == {"seed": 7, "worker": "one", "device": "abacus"}
    assert one.complete(claim, (0.25, 1000.0), {"seconds": 1.5})
    held = other.held()
    assert held.running == {}
    (done,) = held.complete.items()
    assert done[0] == (1, 7)
    assert done[1].values == [0.25, 1000.0]
    assert done[1].user_attrs == {**running.user_attrs, "seconds": 1.5}


def test_the_first_that_is_free_is_taken(join: Join) -> None:
    one, other = join("one"), join("other")
    first = take(one)
    assert first.key == (0, 0)
    assert take(other).key == (1, 0)
    one.complete(first, (0.5, 1.0), {})
    assert take(one).key == (2, 0)
    assert one.take(PLANNED, {}) is None
    # Another seed is another measurement.
    assert take(one, [(0, 0), (0, 1)]).key == (0, 1)
    assert set(other.held().complete) == {(0, 0)}
    assert set(other.held().running) == {(1, 0), (2, 0), (0, 1)}


def test_trials_of_others_do_not_count(join: Join) -> None:
    worker = join("one")
    study = optuna.load_study(study_name="task", storage=worker._storage)
    told: dict[str, Any] = {"params": SPACE.params(0), "distributions": SPACE.distributions()}
    study.add_trial(create_trial(values=[0.5, 1.0], **told))  # no seed
    study.add_trial(create_trial(values=[0.5, 1.0], user_attrs={"seed": 0}))  # no configuration
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"seed": 0}, **told))
    worker._storage.create_new_trial(study._study_id)  # nothing yet
    held = worker.held()
    assert held.complete == held.running == {}
    assert take(worker).key == (0, 0)


@pytest.mark.parametrize("already_made", [False, True])
def test_who_comes_second_yields(
    join: Join, monkeypatch: pytest.MonkeyPatch, already_made: bool
) -> None:
    one, other = join("one"), join("other")

    def be_faster() -> None:
        claim = take(other)
        assert claim.key == (0, 0)
        if already_made:
            other.complete(claim, (0.5, 1.0), {})

    before_the_next(monkeypatch, one, "create_new_trial", be_faster)
    assert take(one).key == (1, 0)
    assert states(one) == [
        TrialState.COMPLETE if already_made else TrialState.RUNNING,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]


def test_who_comes_first_stays(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = join("one"), join("other")
    create = one._storage.create_new_trial

    def early(*arguments: Any) -> int:
        trial = create(*arguments)
        assert other._claim((0, 0), {}) is None  # as if it had read before
        return trial

    monkeypatch.setattr(one._storage, "create_new_trial", early)
    assert take(one).key == (0, 0)
    assert states(one) == [TrialState.RUNNING, TrialState.FAIL]


def test_a_worker_without_a_sign_of_life_is_succeeded(join: Join, clock: Clock) -> None:
    dead, heir = join("dead"), join("heir")
    claim = take(dead, [(0, 0)])
    assert heir.take([(0, 0)], {}) is None
    pass_time(clock, heir, DEAD_AFTER)
    assert heir.take([(0, 0)], {}) is None
    clock.now += 0.1
    inherited = take(heir, [(0, 0)])
    assert inherited.key == claim.key
    # Should it come back, its result is dropped.
    assert not dead.complete(claim, (0.9, 1.0), {"seconds": 1.0})
    assert heir.complete(inherited, (0.1, 1.0), {})
    assert not dead.complete(claim, (0.9, 1.0), {})
    (trial,) = dead.held().complete.values()
    assert trial.values == [0.1, 1.0]
    assert states(heir) == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_sign_of_life_is_enough(join: Join, clock: Clock) -> None:
    living, other = join("living"), join("other")
    claim = take(living, [(0, 0)])
    for sign in range(1, 5):
        assert other.take([(0, 0)], {}) is None
        clock.now += DEAD_AFTER - 1
        living._storage.set_trial_system_attr(claim.trial, SIGN, sign)
    assert other.take([(0, 0)], {}) is None
    assert living.complete(claim, (0.5, 1.0), {})


def test_the_dead_are_noticed_while_there_is_other_work(join: Join, clock: Clock) -> None:
    dead, heir = join("dead"), join("heir")
    take(dead)
    for key in ((1, 0), (2, 0)):
        claim = take(heir)
        assert claim.key == key
        pass_time(clock, heir, DEAD_AFTER / 2 + 1)
        heir.complete(claim, (0.5, 1.0), {})
    assert take(heir).key == (0, 0)


@pytest.mark.parametrize("fails", [True, False])
def test_nobody_is_dead_whose_signs_could_not_be_seen(
    join: Join, clock: Clock, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The storage was away, or this worker stood still; both workers go on after that."""
    living, other = join("living"), join("other")
    claim = take(living, [(0, 0)])
    assert other.take([(0, 0)], {}) is None
    if fails:
        pass_time(clock, other, DEAD_AFTER - 1)
        storage = inner(other)
        real, failures = storage.get_all_trials, iter(range(50))

        def away(*arguments: Any, **named: Any) -> Any:
            for _ in failures:
                locked()
            return real(*arguments, **named)

        monkeypatch.setattr(storage, "get_all_trials", away)
    else:
        clock.now += 10 * DEAD_AFTER
    assert other.take([(0, 0)], {}) is None
    pass_time(clock, other, DEAD_AFTER)
    assert other.take([(0, 0)], {}) is None
    living._storage.set_trial_system_attr(claim.trial, SIGN, 1)
    pass_time(clock, other, DEAD_AFTER)
    assert other.take([(0, 0)], {}) is None
    pass_time(clock, other, DEAD_AFTER + 0.1)
    assert take(other, [(0, 0)]).key == (0, 0)


def test_two_heirs_at_once(join: Join, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, one, other = join("dead"), join("one"), join("other")
    take(dead, [(0, 0)])
    for heir in (one, other):
        assert heir.take([(0, 0)], {}) is None
    for heir in (one, other):
        pass_time(clock, heir, DEAD_AFTER / 2 + 1)
    before_the_next(monkeypatch, one, "set_trial_state_values", lambda: take(other, [(0, 0)]))
    assert one.take([(0, 0)], {}) is None
    assert states(one).count(TrialState.RUNNING) == 1


def showing() -> bool:
    """Whether a thread shows signs of life."""
    return any(thread.name.endswith("(show)") for thread in threading.enumerate())


def test_the_living_show_it(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = join("one", sign_every=0.02)
    claim = take(worker)
    storage = inner(worker)  # who shows a sign has no time to wait
    show, failures = storage.set_trial_system_attr, iter([OSError("busy")])

    def failing_once(*arguments: Any) -> None:
        for problem in failures:
            raise problem
        show(*arguments)

    monkeypatch.setattr(storage, "set_trial_system_attr", failing_once)

    def sign() -> int:
        return int(worker._storage.get_trial(claim.trial).system_attrs.get(SIGN, 0))

    with worker.alive(claim):
        assert showing()
        seen: set[int] = set()
        deadline = time.monotonic() + 30
        while len(seen) < 4:
            assert time.monotonic() < deadline
            seen.add(sign())
            time.sleep(0.01)
    last = sign()
    assert not showing()
    assert sign() == last


def test_who_is_taken_for_dead_shows_no_more(join: Join) -> None:
    worker = join("one", sign_every=0.01)
    claim = take(worker)
    with worker.alive(claim):
        fail(join("other")._storage, claim.trial)
        deadline = time.monotonic() + 30
        while showing():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_is_abandoned_is_free_at_once(join: Join) -> None:
    one, other = join("one"), join("other")
    mine = [take(one), take(one)]
    theirs = take(other)
    one.complete(mine[0], (0.5, 1.0), {})
    one.abandon()
    assert states(one) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING]
    assert take(other).key == mine[1].key
    assert other.complete(theirs, (0.5, 1.0), {})


def locked(*_: object, **__: object) -> None:
    problem = OperationalError("INSERT", {}, Exception("database is locked"))
    raise StorageInternalError("An exception is raised during the commit.") from problem


@pytest.mark.parametrize(
    "method",
    ["create_new_trial", "get_all_trials", "set_trial_user_attr", "set_trial_state_values"],
)
def test_a_storage_that_fails_is_asked_again(
    join: Join, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    worker = join("one")
    storage = inner(worker)
    real, failures = getattr(storage, method), iter(range(3))

    def failing(*arguments: Any, **named: Any) -> Any:
        for _ in failures:
            locked()
        return real(*arguments, **named)

    monkeypatch.setattr(storage, method, failing)
    assert worker.complete(take(worker), (0.5, 1.0), {"seconds": 1.0})
    assert set(worker.held().complete) == {(0, 0)}
    assert next(failures, None) is None


def test_a_storage_that_fails_for_long_is_one_sentence(
    join: Join, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = join("one")
    monkeypatch.setattr(inner(worker), "get_all_trials", locked)
    began = clock.now
    with pytest.raises(StorageError, match=r"^storage .* failed \(database is loc.*go on$"):
        worker.held()
    assert clock.now - began == Pace().patience


def test_ctrl_c_is_not_lost_in_an_error(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = join("one")

    def unlock(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except BaseException:
            Path("no such lock").unlink()  # as the lock of a journal does
            raise

    monkeypatch.setattr(inner(worker), "get_all_trials", unlock)
    with pytest.raises(KeyboardInterrupt):
        worker.held()
