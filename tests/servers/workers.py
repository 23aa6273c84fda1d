"""Worker processes on one storage, and what they leave in it.

As a program, this file forks workers: a line of its input is what the next one does, and it
answers with the process. So torch is loaded once only.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalRedisBackend
from optuna.trial import TrialState

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.studies.patience import Pace
from optuna_peppp.studies.sampler import PEPPPSampler

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

    from optuna_peppp.lowprecision import Experiment, TrainingResult

SPACE: Final = ConfigurationSpace(
    {
        "format_a": ["1-3-2", "1-4-2", "1-4-3", "1-5-3"],
        "format_b": ["1-6-7", "1-6-9", "1-6-11", "1-7-7", "1-7-9", "1-7-11"],
    }
)
"""What the sampler and `tune` choose from: so little that they come to its end."""

TASK: Final = "task"
"""The study of :func:`sample`."""

PAUSE: Final = 0.5
"""Seconds that a measurement takes at least."""

_PACED: Final = ("collecting.workers", "studies.tuning")
"""Modules whose commands have one pace."""

_EXAMPLE: Final = "optuna_peppp.examples.several_machines"

TRAINING: Final = "training of"
"""Said of every measurement when it begins."""

STUCK: Final = "in the middle of a trial"
"""Said by a worker that stays there, to be killed."""


def past_tasks() -> ErrorMatrix:
    """Four tasks whose errors fall as formats grow."""
    rng = np.random.default_rng(1)
    shape = (4, len(SPACE))
    steps = np.linspace(0.5, 1.0, 4)[:, None]
    errors = 0.8 - steps * np.linspace(0.2, 0.6, len(SPACE)) + rng.uniform(0, 0.02, shape)
    memory = np.tile(1000.0 + 10 * np.arange(len(SPACE)), (4, 1))
    return ErrorMatrix(SPACE, tuple(f"past{task}" for task in range(4)), errors, memory)


def storage_of(url: str) -> BaseStorage:
    """A storage as a user of Optuna opens it."""
    parts = urlsplit(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if parts.scheme == "redis":
            return JournalStorage(JournalRedisBackend(url))
        if parts.scheme == "grpc":
            return GrpcStorageProxy(host=str(parts.hostname), port=int(parts.port or 0))
        return RDBStorage(url)


def trials_in(url: str, *states: TrialState) -> list[FrozenTrial]:
    """The trials of all studies of a storage, read now."""
    storage = storage_of(url)
    try:
        return [
            trial
            for study in storage.get_all_studies()
            for trial in storage.get_all_trials(study._study_id, False, states or None)
        ]
    finally:
        close(storage)


def has_completed(url: str, count: int) -> bool:
    """Whether a storage holds so many completed trials."""
    return len(trials_in(url, TrialState.COMPLETE)) >= count


def close(storage: BaseStorage) -> None:
    """Ends the connections of :func:`storage_of`, which the next restart would break."""
    if isinstance(storage, GrpcStorageProxy):
        storage.close()
    elif isinstance(storage, RDBStorage):
        storage.engine.dispose()


class Workers:
    """Starts workers; at the end none is left."""

    def __init__(self) -> None:
        self._forks = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": "1"},
        )

    def start(self, output: Path, *command: str | Path | float, dead_after: float) -> Worker:
        """Starts ``optuna-peppp COMMAND``, or what ``sample`` and ``example`` stand for.

        The one is :func:`sample`, the other the example of several machines.

        Args:
            output: A file for what it says.
            command: What it does.
            dead_after: Seconds after which it takes another worker for dead.
        """
        output.touch()
        return Worker(self, self.ask(str(output), dead_after, *map(str, command)), output)

    def ask(self, *request: str | float) -> Any:
        """Starts a worker, or asks how one ended."""
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        self._forks.stdin.write(f"{json.dumps(request)}\n")
        self._forks.stdin.flush()
        return json.loads(self._forks.stdout.readline())

    def close(self) -> None:
        self._forks.communicate(timeout=60)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that runs a command.

    Attributes:
        workers: Who started it.
        pid: Its number, which is that of its process group too.
        output: The file of its standard output and standard error.
    """

    workers: Workers
    pid: int
    output: Path

    def kill(self) -> None:
        """As the system does when memory runs out."""
        os.kill(self.pid, signal.SIGKILL)

    def said(self) -> str:
        return self.output.read_text()

    def is_stuck(self) -> bool:
        """Whether it waits to be killed."""
        return STUCK in self.said()

    def trainings(self) -> int:
        """How many measurements it began."""
        return self.said().count(TRAINING)

    def code(self) -> int | None:
        """How it ended, None while it runs."""
        code: int | None = self.workers.ask(self.pid)
        return code

    def wait(self, seconds: float = 120) -> int:
        """How it ends; fails when it does not."""
        deadline = time.monotonic() + seconds
        while (code := self.code()) is None:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return code


def until(condition: Callable[[], bool], *workers: Worker) -> None:
    """Waits for what workers bring about; fails when one ends before, or it takes too long."""
    deadline = time.monotonic() + 120
    while not condition():
        said = "\n".join(worker.said() for worker in workers)
        assert all(worker.code() is None for worker in workers), said
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def fork_workers() -> None:
    """Forks a worker for every list of words, and tells how one ended for its number."""
    for name in ("cli", "lowprecision.training.devices", "report.text", *_PACED):
        importlib.import_module(f"optuna_peppp.{name}")
    importlib.import_module(_EXAMPLE)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    codes: dict[int, int | None] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if len(request) > 1:
            answer: int | None = os.fork()
            if not answer:
                os._exit(work(*request))
            codes[answer] = None
        else:
            (worker,) = request
            pid, status = os.waitpid(worker, os.WNOHANG) if codes[worker] is None else (0, 0)
            if pid:
                codes[worker] = os.waitstatus_to_exitcode(status)
            answer = codes[worker]
        print(json.dumps(answer), flush=True)
    for worker in codes:
        with suppress(ProcessLookupError):
            os.killpg(worker, signal.SIGKILL)
    os._exit(0)  # taking torch apart takes seconds


def work(output: str, dead_after: float, *command: str) -> int:
    """Runs a command in this process, a worker of its own.

    Returns:
        Its exit code.
    """
    os.setsid()
    with Path(output).open("wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    set_clocks(dead_after)
    try:
        if command[0] == "sample":
            sample(*command[1:])
        elif command[0] == "example":
            importlib.import_module(_EXAMPLE).main(command[1:])
        else:
            importlib.import_module("optuna_peppp.cli").app(list(command))
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def set_clocks(dead_after: float) -> None:
    """Makes measurements slow and workers quick to answer, for commands, which have one pace."""
    quick = partial(Pace, sign_every=dead_after / 10, dead_after=dead_after, poll=0.1)
    for name in _PACED:
        vars(importlib.import_module(f"optuna_peppp.{name}"))["Pace"] = quick
    experiment: type[Experiment] = importlib.import_module("optuna_peppp.lowprecision").Experiment
    measure = experiment.measure

    def slow(self: Experiment, params: dict[str, str], *more: Any) -> TrainingResult:
        print(TRAINING, *params.values(), flush=True)
        time.sleep(PAUSE)
        return measure(self, params, *more)

    experiment.measure = slow  # type: ignore[assignment]


def sample(url: str, trials: str, stuck: str) -> None:
    """A user's own program: a study with the sampler, to be killed in a trial or not.

    Args:
        url: The storage.
        trials: How many, at most.
        stuck: After how many of them it stays in one for good.
    """
    tasks = past_tasks()
    sampler = PEPPPSampler(MetaModel.fit(tasks, rank=1), tasks.memory[0])
    study = optuna.load_study(study_name=TASK, storage=storage_of(url), sampler=sampler)

    def objective(trial: Trial) -> tuple[float, float]:
        index = SPACE.index(SPACE.suggest(trial))
        if len(seen) == int(stuck):
            print(STUCK, flush=True)
            time.sleep(600)
        seen.append(index)
        time.sleep(PAUSE / 5)
        return float(tasks.errors[0, index]), float(tasks.memory[0, index])

    seen: list[int] = []
    study.optimize(objective, n_trials=int(trials))


if __name__ == "__main__":
    fork_workers()
