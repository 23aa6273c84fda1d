"""Meta-leave-one-out cross-validation: what a strategy would have achieved on past tasks.

Each task of a corpus in turn is the new one (paper, Section 4.2). The meta-model learns from the
rows of all other tasks, the strategy measures configurations of the new one, answered from the
corpus, the rest is predicted, and the prediction is compared with the truth.

Only configurations whose error the corpus knows, and which are within the memory cap, are
measured, predicted and compared (:mod:`optuna_peppp.evaluation.quality`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from optuna_peppp.acquisition.strategies import Strategy
from optuna_peppp.corpora import sampling
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.evaluation.quality import Quality
from optuna_peppp.evaluation.splits import Split
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.processes import worker_pool
from optuna_peppp.sizes import format_size, parse_size


@dataclass(frozen=True, slots=True)
class Score:
    """The quality of one strategy on one task after so many measurements.

    Attributes:
        task: The task that was left out, with its network where the corpus has several.
        strategy: Name of the strategy.
        measurements: How many configurations were measured; all that may be where they are
            fewer.
        seed: Of meta-training samples and random strategies.
        quality: The comparison with the truth.
    """

    task: str
    strategy: str
    measurements: int
    seed: int
    quality: Quality

    def as_row(self) -> dict[str, str | int | float]:
        """The score as a row of a CSV file, a column a field."""
        own: dict[str, str | int | float] = {
            "task": self.task,
            "strategy": self.strategy,
            "measurements": self.measurements,
            "seed": self.seed,
        }
        return own | asdict(self.quality)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What to evaluate.

    Attributes:
        matrix: The corpus; three tasks at least.
        strategies: Strategies by name.
        measurements: Numbers of measurements to judge after.
        memory_cap: Leave configurations that need more out, in bytes or as text such as
            ``"816MiB"`` (paper, Table 1: Settings II, IV and VI); None for no cap.
        measurement_cap: Do not measure configurations that need more, but judge how they are
            predicted, too; None for no cap.
        fraction: Share of the other tasks' entries to learn from (Settings III to VI); None for
            all.
        scheme: How these are sampled.
        rank: Of the meta-model; by default chosen on every split.
        seed: Of meta-training samples and random strategies.

    Raises:
        ValueError: Fewer than three tasks, no strategy, a number of measurements below 1, a
            fraction of a corpus that is not complete, or a cap that leaves a task nothing.
    """

    matrix: ErrorMatrix
    strategies: Mapping[str, Strategy]
    measurements: Sequence[int] = (1, 2, 3, 6, 12)
    memory_cap: str | float | None = None
    measurement_cap: str | float | None = None
    fraction: float | None = None
    scheme: sampling.Scheme = "uniform"
    rank: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        tasks = set(self.matrix.tasks)
        if len(tasks) < 3:
            raise ValueError(
                "matrix must hold at least three tasks, one to leave out and two to learn from; "
                f"got {len(tasks)}"
            )
        if not self.strategies:
            raise ValueError("strategies must name at least one; got none")
        if not self.measurements or min(self.measurements) < 1:
            raise ValueError(f"measurements must be numbers of at least 1; got {self.measurements}")
        if self.fraction is not None:
            if not (self.matrix.observed & ~np.isnan(self.matrix.memory)).all():
                raise ValueError(
                    "fraction needs a complete corpus, errors and memory, to sample from; leave "
                    "it out to learn from what was measured"
                )
            sampling.probabilities(self.matrix.memory, self.fraction, self.scheme)
        for row in range(len(self.matrix.tasks)):
            self._check_left("memory_cap", self.memory_cap, row, self._considered(row))
            self._check_left("measurement_cap", self.measurement_cap, row, self._feasible(row))

    def _check_left(
        self, name: str, cap: str | float | None, row: int, remaining: NDArray[np.bool_]
    ) -> None:
        """Refuses a cap that leaves nothing of a task."""
        if not remaining.any():
            memory = self.matrix.memory[row, self.matrix.observed[row]]
            smallest = format_size(np.nanmin(memory)) if not np.isnan(memory).all() else "unknown"
            raise ValueError(
                f"{name} must leave a measured configuration of every task; {self.name(row)!r} "
                f"has none within {cap}, its smallest memory is {smallest}"
            )

    def name(self, row: int) -> str:
        """The task of a row, with its network where there are several."""
        return self.matrix.labels[row]

    def split(self, row: int) -> Split:
        """Leaves out all rows of the task of ``row``, whatever their network.

        Raises:
            ValueError: The other tasks are not enough to learn from.
        """
        matrix = self.matrix
        others = np.array([task != matrix.tasks[row] for task in matrix.tasks])
        labelled = replace(matrix, tasks=matrix.labels, models=())
        past = labelled.rows(others)
        if self.fraction is not None:
            seed = _derived(self.seed, row)
            drawn = sampling.plan(past.memory, self.fraction, self.scheme, seed)
            past = replace(past, errors=np.where(drawn, past.errors, np.nan))
        try:
            meta = MetaModel.fit(past, rank=self.rank)
        except ValueError as problem:
            raise ValueError(f"without {self.name(row)!r}: {problem}") from problem
        return Split(
            meta,
            matrix.memory[row],
            matrix.errors[row],
            self._considered(row),
            self._feasible(row),
        )

    def scores(self, row: int) -> list[Score]:
        """The scores of all strategies on the task of one row."""
        split = self.split(row)
        counts = sorted(set(self.measurements))
        return [
            Score(self.name(row), name, count, self.seed, quality)
            for name, strategy in self.strategies.items()
            for count, quality in zip(
                counts,
                split.qualities(strategy, counts, _derived(self.seed, row)),
                strict=True,
            )
        ]

    def run(self, jobs: int = 1) -> Iterator[Score]:
        """Leaves out every task in turn, showing progress on standard error.

        Args:
            jobs: Processes; tasks are shared between them.

        Raises:
            ValueError: As :meth:`split`.
        """
        rows = range(len(self.matrix.tasks))
        with tqdm(total=len(rows), unit="task", leave=False) as bar:
            for scores in self._by_row(rows, jobs):
                yield from scores
                bar.update()

    def _by_row(self, rows: range, jobs: int) -> Iterator[list[Score]]:
        if jobs == 1:
            yield from map(self.scores, rows)
            return
        with worker_pool(jobs, _set_up, self) as pool:
            for future in [pool.submit(_scores, row) for row in rows]:
                yield future.result()

    def _considered(self, row: int) -> NDArray[np.bool_]:
        considered: NDArray[np.bool_] = self.matrix.observed[row] & self._within(
            self.memory_cap, row
        )
        return considered

    def _feasible(self, row: int) -> NDArray[np.bool_]:
        feasible: NDArray[np.bool_] = self._considered(row) & self._within(
            self.measurement_cap, row
        )
        return feasible

    def _within(self, cap: str | float | None, row: int) -> NDArray[np.bool_]:
        within: NDArray[np.bool_] = self.matrix.memory[row] <= (
            np.inf if cap is None else parse_size(cap)
        )
        return within


def _derived(seed: int, row: int) -> int:
    """A seed of its own for every task."""
    return int(np.random.SeedSequence((seed, row)).generate_state(1)[0])


_worker: Evaluation
"""What a worker process evaluates."""


def _set_up(evaluation: Evaluation) -> None:
    global _worker
    _worker = evaluation


def _scores(row: int) -> list[Score]:
    return _worker.scores(row)
