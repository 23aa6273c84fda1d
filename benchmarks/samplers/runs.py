"""One run: what somebody measured on a task, in their order. A file a contestant, a row a run."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import tables
from benchmarks.samplers.contestants import CONTESTANTS
from benchmarks.samplers.tasks import NewTask, fingerprint, new_task
from optuna_peppp import ErrorMatrix, pareto
from optuna_peppp.pareto import REFERENCE, scale

BUDGETS: Final = (1, 2, 3, 6, 10, 15, 20, 30)
"""Numbers of measurements after which contestants are compared."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured on a task.

    Attributes:
        corpus: Fingerprint of the corpus.
        version: Of the contestant's package.
        task: Name of the task.
        seed: Number of the run; the contestant's seed is made of it and the task.
        milliseconds: Processor time of a trial, mean, without what is learned before the first.
        indices: The configurations, in their order, repeats included.
    """

    corpus: str
    version: str
    task: str
    seed: int
    milliseconds: float
    indices: tuple[int, ...]


def measure(contestant: str, task: NewTask, trials: int, seed: int, corpus: str = "") -> Run:
    """Lets a contestant measure on a new task."""
    own_seed = int(np.random.SeedSequence((seed, task.row)).generate_state(1)[0]) % 2**31
    one, indices, errors = CONTESTANTS[contestant], list[int](), list[float]()
    with warnings.catch_warnings():
        if one.version.partition(" ")[0] != "optuna_peppp":
            warnings.simplefilter("ignore")  # Theirs to mend.
        choose = one.start(task, own_seed)
        begin = time.process_time()
        while len(indices) < trials:
            indices.append(choose(indices, errors))
            errors.append(float(task.errors[indices[-1]]))
    spent = 1000 * (time.process_time() - begin) / trials
    return Run(corpus, one.version, task.name, seed, round(spent, 3), tuple(indices))


def regrets(run: Run, errors: NDArray[np.float64], memory: NDArray[np.float64]) -> list[float]:
    """Hypervolume regret of what was measured after each of the budgets that the run has.

    Memory is scaled to [0, 1] within the task; the reference point is (1.05, 1).
    """
    points = np.column_stack((scale(memory), errors))
    whole = pareto.hypervolume(points, REFERENCE)
    return [
        whole - pareto.hypervolume(points[list(run.indices[:count])], REFERENCE)
        for count in BUDGETS
        if count <= len(run.indices)
    ]


@dataclass(frozen=True)
class Runner:
    """Makes the run of a contestant on a task of a corpus; what it learns, the next one shares."""

    matrix: ErrorMatrix
    trials: int
    _last: dict[int, NewTask] = field(default_factory=dict)

    @cached_property
    def corpus(self) -> str:
        """Its fingerprint."""
        return fingerprint(self.matrix)

    def __call__(self, job: tuple[str, int, int]) -> Run:
        """A contestant, a row and the number of the run."""
        contestant, row, seed = job
        if row not in self._last:
            self._last.clear()
            self._last[row] = new_task(self.matrix, row)
        return measure(contestant, self._last[row], self.trials, seed, self.corpus)


def read(path: Path) -> list[Run]:
    """The runs of a file; none where there is none.

    Raises:
        ValueError: The file holds something else.
    """
    runs = []
    for row in tables.read(path):
        try:
            runs.append(
                Run(
                    row["corpus"],
                    row["version"],
                    row["task"],
                    int(row["seed"]),
                    float(row["milliseconds"]),
                    tuple(map(int, row["indices"].split())),
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise ValueError(f"{path} must hold runs; got {row}: remove it") from problem
    return runs


def append(path: Path, run: Run) -> None:
    """Adds a run to a file; it is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {name: getattr(run, name) for name in Run.__slots__}
    row["indices"] = " ".join(map(str, run.indices))
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(tables.text([row], header=not file.tell()))
        file.flush()
        os.fsync(file.fileno())
