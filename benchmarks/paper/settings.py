"""Meta-leave-one-out cross-validation in the paper's Settings I to VI, for Figures 11, 18 and 24.

Every technique in every setting, computed as the authors did (authors.py) and by the package's
:class:`optuna_peppp.evaluation.leave_one_out.Evaluation`, at the rank 3 of the paper's text and at
the rank 5 of their runs. In both, Bayesian optimization chooses only what to measure; the
prediction is that of the other techniques.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.paper import authors
from benchmarks.paper.authors import RANK
from benchmarks.paper.baselines import BAYESIAN
from optuna_peppp import ErrorMatrix
from optuna_peppp.acquisition.strategies import PAPER
from optuna_peppp.corpora.sampling import Scheme
from optuna_peppp.evaluation.leave_one_out import Evaluation
from optuna_peppp.evaluation.splits import Split
from optuna_peppp.pareto import predicted_frontier

LARGEST: Final = 15
"""Measurements, as in the authors' runs."""

FRACTION: Final = 0.2
TEXT_RANK: Final = 3
AUTHORS: Final = "authors"
PLAIN: Final = f"plain, rank {TEXT_RANK}"
PLAIN_AT_THEIR_RANK: Final = f"plain, rank {RANK}"
RANKS: Final[Mapping[str, int]] = {AUTHORS: RANK, PLAIN: TEXT_RANK, PLAIN_AT_THEIR_RANK: RANK}
"""The ways of computing, and their ranks: fewer measurements determine no embedding."""

_QUICK_TASKS: Final = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """A cell of the paper's Table 1.

    How a fifth of the meta-training entries is sampled, None for all of them, and whether meta-test
    is limited to the median memory of the matrix.
    """

    scheme: Scheme | None
    capped: bool

    def cap(self, corpus: ErrorMatrix) -> float | None:
        """Bytes, or None."""
        return float(np.nanmedian(corpus.memory)) if self.capped else None


SETTINGS: Final[Mapping[str, Setting]] = {
    **{"I": Setting(None, False), "II": Setting(None, True)},
    **{"III": Setting("uniform", False), "IV": Setting("uniform", True)},
    **{"V": Setting("memory", False), "VI": Setting("memory", True)},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One technique on one task after so many measurements."""

    convention: str
    setting: str
    technique: str
    measurements: int
    task: str
    relative_memory: float
    convergence: float
    hyperdiff: float


def chosen_rows(corpus: ErrorMatrix, quick: bool) -> list[int]:
    """The tasks that are left out: all of them, or three that are spread over the corpus."""
    n = len(corpus.tasks)
    spread = np.linspace(0, n - 1, _QUICK_TASKS).round().astype(int)
    return sorted(set(spread.tolist())) if quick else list(range(n))


def outcomes(
    corpus: ErrorMatrix,
    names: Iterable[str],
    rows: Sequence[int],
    conventions: Iterable[str] = RANKS,
    seed: int = 0,
) -> Iterator[Outcome]:
    """All techniques in the settings of these names; the authors' way needs complete tasks."""
    for name in names:
        for convention in conventions:
            if convention == AUTHORS:
                yield from authors_outcomes(corpus, name, rows, seed)
            else:
                yield from plain_outcomes(corpus, name, rows, convention, seed)


def authors_outcomes(
    corpus: ErrorMatrix, name: str, rows: Iterable[int], seed: int = 0
) -> Iterator[Outcome]:
    """As the authors computed them."""
    for row in rows:
        task = authors_split(corpus, row, SETTINGS[name], seed)
        feasible = task.considered
        memory, errors = task.memory[feasible], task.errors[feasible]
        for technique, strategy in authors.TECHNIQUES.items():
            order = authors.measure(task, strategy, LARGEST, seed + row)
            for count in range(RANK, LARGEST + 1):
                predicted = authors.predict(task, order[:count])[feasible]
                _, *found = authors.qualities(memory, errors, predicted, corpus.memory.max())
                share = float(task.memory[order[:count]].sum() / memory.sum())
                what = AUTHORS, name, technique, count, corpus.tasks[row], share
                yield Outcome(*what, *found)


def authors_split(
    corpus: ErrorMatrix, row: int, setting: Setting, seed: int, rank: int = RANK
) -> Split:
    """A task left out in a setting, as by the authors; another sample for every task."""
    cap = setting.cap(corpus)
    if setting.scheme is None:
        return authors.split(corpus, row, memory_cap=cap, rank=rank)
    if setting.scheme == "uniform":
        chances = np.full(corpus.memory.shape, FRACTION)
    else:
        # Chances are half of the largest on average.
        chances = authors.memory_chances(corpus.memory, 2 * FRACTION)
    return authors.split(
        corpus,
        row,
        memory_cap=cap,
        rank=rank,
        drawn=authors.draw(chances, (seed, row)),
        chances=chances if setting.scheme == "memory" else None,
    )


def plain_outcomes(
    corpus: ErrorMatrix, name: str, rows: Sequence[int], convention: str, seed: int = 0
) -> Iterator[Outcome]:
    """By the plain definitions: the package's own numbers."""
    setting, rank = SETTINGS[name], RANKS[convention]
    evaluation = Evaluation(
        corpus,
        {**PAPER, **BAYESIAN},
        range(rank, LARGEST + 1),
        memory_cap=setting.cap(corpus),
        fraction=None if setting.scheme is None else FRACTION,
        scheme=setting.scheme or "uniform",
        rank=min(rank, len(corpus.tasks) - 1),
        seed=seed,
    )
    for row in rows:
        for score in evaluation.scores(row):
            q, what = score.quality, (score.strategy, score.measurements, score.task)
            yield Outcome(convention, name, *what, q.relative_memory, q.convergence, q.hyperdiff)


def plain_frontier(task: Split, measured: list[int]) -> NDArray[np.intp]:
    """The frontier that the paper's least squares predict, measured errors kept; by memory."""
    known = task.errors[measured]
    predicted, _ = task.meta.predict(measured, known)
    predicted[measured] = known
    mask = np.zeros(len(predicted), dtype=np.bool_)
    mask[measured] = True
    return predicted_frontier(task.memory, predicted, mask)
