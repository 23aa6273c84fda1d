"""`collect` in several processes on one storage: exactly once, whoever is killed when.

As a program, this file forks workers: a line of its input is what the next one does, or the number
of one that ended, and it answers with the process or how it ended. So torch is loaded once only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optuna_peppp.collecting.planning import Measurement
from optuna_peppp.collecting.workers import collect
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.lowprecision import Experiment, TrainingResult
from optuna_peppp.studies.patience import Pace
from optuna_peppp.studies.storage import open_storage

SPACE = ConfigurationSpace.paper()
LETHAL = 666


class Quick(Experiment):
    """Sleeps as long as its image size says, in milliseconds, instead of training."""

    __slots__ = ()

    def measure(
        self, params: object, on_epoch: Callable[[int], None] | None = None
    ) -> TrainingResult:
        if self.seed == LETHAL:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep((self.image_size or 0) / 1000)
        return TrainingResult(0.5, (0.5,), False, 1)


def planned(milliseconds: int, count: int, *, lethal: bool = False) -> list[Measurement]:
    """So many measurements of two tasks each."""
    return [
        Measurement(
            Quick("npz:x", "plain3", milliseconds, seed=LETHAL if lethal else seed),
            name,
            8,
            SPACE,
            index,
            1000 + index,
        )
        for name in ("one", "other")
        for seed, index in (divmod(j, len(SPACE)) for j in range(count))
    ]


class Forks:
    """The process that forks workers."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *request: object) -> int:
        """Starts a worker, or waits for the one of that number and tells its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=60)


class Crew:
    """Workers on one storage, each the leader of a process group."""

    def __init__(
        self, forks: Forks, storage: str, milliseconds: int, count: int, *, lethal: bool = False
    ) -> None:
        self.storage = storage
        self.plan = planned(milliseconds, count, lethal=lethal)
        self.workers: list[int] = []
        self._forks = forks
        self._opened: BaseStorage | None = None
        self._errors = Path(f"{storage.removeprefix('sqlite:///')}.errors")
        self._errors.touch()
        self._work = str(self._errors), storage, milliseconds, count, lethal

    def start(self, jobs: int = 1) -> int:
        """Starts a worker."""
        self.workers.append(self._forks.ask(*self._work, jobs))
        return self.workers[-1]

    def trials(self) -> list[FrozenTrial]:
        """All trials of both tasks."""
        if self._opened is None:
            try:
                self._opened = open_storage(self.storage)
            except ValueError:  # there is none yet
                return []
        return [
            trial
            for study in self._opened.get_all_studies()
            for trial in self._opened.get_all_trials(study._study_id, deepcopy=False)
        ]

    def complete(self) -> list[FrozenTrial]:
        """The trials that are made."""
        return [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]

    def unfinished(self) -> list[FrozenTrial]:
        """The trials that are being made, or were when their worker died."""
        return [trial for trial in self.trials() if not trial.state.is_finished()]

    def wait(self) -> list[int]:
        """Exit codes of all workers, once no process of theirs is left."""
        codes = [self._forks.ask(worker) for worker in self.workers]
        deadline = time.monotonic() + 60
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.killpg(worker, 0)
                    assert time.monotonic() < deadline, "a process outlived its worker"
                    time.sleep(0.05)
        return codes

    def said(self) -> str:
        """Their standard error."""
        return self._errors.read_text()

    def close(self) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker, signal.SIGKILL)

    def check_complete(self) -> None:
        """Every measurement is made exactly once."""
        made = Counter(
            (trial.user_attrs["seed"], *trial.params.values()) for trial in self.complete()
        )
        assert made == Counter((m.experiment.seed, *m.params.values()) for m in self.plan)


def has_news(crew: Crew, known: set[str]) -> bool:
    """Whether another worker than those known has made a measurement."""
    return any(trial.user_attrs["worker"] not in known for trial in crew.complete())


def until(condition: Callable[[], bool], crew: Crew) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, crew.said()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with contextlib.closing(Forks()) as process:
        yield process


@pytest.fixture
def crew(forks: Forks, tmp_path: Path) -> Iterator[Callable[..., Crew]]:
    crews: list[Crew] = []

    def gather(kind: str, milliseconds: int, count: int, *, lethal: bool = False) -> Crew:
        crews.append(Crew(forks, kind.format(tmp_path), milliseconds, count, lethal=lethal))
        return crews[-1]

    yield gather
    for one in crews:
        one.close()


KINDS = ["sqlite:///{}/corpus.db", "{}/corpus.journal"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_measure_everything_exactly_once(crew: Callable[..., Crew], kind: str) -> None:
    both = crew(kind, 5, 30)
    for _ in range(2):
        both.start()  # at once, so that they make the storage at the same time, too
    assert both.wait() == [0, 0], both.said()
    both.check_complete()
    shares = Counter(trial.user_attrs["worker"] for trial in both.complete())
    assert len(shares) == 2, shares
    assert not both.unfinished()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_killed_five_times_loses_nothing(crew: Callable[..., Crew], kind: str) -> None:
    both = crew(kind, 100, 40)
    both.start()
    until(lambda: len(both.complete()) > 0, both)
    for _ in range(5):
        known = {trial.user_attrs["worker"] for trial in both.trials()}
        victim = both.start()
        until(partial(has_news, both, known), both)
        time.sleep(0.05)  # into its next measurement
        os.kill(victim, signal.SIGKILL)
    assert len(both.complete()) < len(both.plan)
    both.start()
    assert both.wait() == [0, *[-signal.SIGKILL] * 5, 0], both.said()
    both.check_complete()


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)])
def running(request: pytest.FixtureRequest, crew: Callable[..., Crew]) -> Crew:
    """A worker of one and of two jobs that has begun."""
    one = crew("{}/corpus.journal", 200, 300)
    one.start(request.param)
    until(lambda: len(one.complete()) >= 3, one)
    return one


def go_on(crew: Crew) -> None:
    """Measures exactly what is missing of a part of the plan."""
    made = len(crew.complete())
    assert 3 <= made < 300
    plan = [m for m in crew.plan if m.task == "one"][: made + 4]
    assert collect(plan, crew.storage, pace=Pace(dead_after=1.0, poll=0.05)) == len(plan) - made
    assert Counter(tuple(trial.params.values()) for trial in crew.complete()) == Counter(
        tuple(m.params.values()) for m in plan
    )


@pytest.mark.usefixtures("_hears_ctrl_c")
def test_ctrl_c_frees_what_is_running(running: Crew) -> None:
    # The terminal sends it to every process of the group.
    os.killpg(running.workers[0], signal.SIGINT)
    assert running.wait() == [-signal.SIGINT]
    assert "KeyboardInterrupt" in running.said()
    assert not running.unfinished()
    go_on(running)


def test_a_kill_loses_only_what_is_running(running: Crew) -> None:
    # Only the process itself: its own workers have to notice.
    os.kill(running.workers[0], signal.SIGKILL)
    assert running.wait() == [-signal.SIGKILL]
    go_on(running)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_command(crew: Callable[..., Crew]) -> None:
    one = crew("{}/corpus.journal", 5, 60, lethal=True)
    one.start(2)
    assert one.wait() == [1]
    assert "ChildProcessError: a process that measured was killed" in one.said()
    assert {trial.state for trial in one.trials()} == {TrialState.FAIL}


def fork_workers() -> None:
    """Forks a worker for every line of the input, or waits for one and tells how it ended."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for line in sys.stdin:
        request = json.loads(line)
        if len(request) == 1:
            answer = os.waitstatus_to_exitcode(os.waitpid(request[0], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                work(*request)
                return
        print(answer, flush=True)


def work(errors: str, storage: str, milliseconds: int, count: int, lethal: bool, jobs: int) -> None:
    """Measures in this process, a worker of its own."""
    os.setsid()
    with Path(errors).open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    pace = Pace(sign_every=0.25, dead_after=2.0, poll=0.1)
    collect(planned(milliseconds, count, lethal=lethal), storage, jobs=jobs, pace=pace)


if __name__ == "__main__":
    fork_workers()
