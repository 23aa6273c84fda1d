"""How the paper's authors computed their figures, on this package's numerics.

Read off their released notebooks. Where that differs from the plain definitions, which
:mod:`optuna_peppp.evaluation.leave_one_out` computes, it is said here:

- Meta-training draws every entry independently and completes the errors themselves at rank 5 with a
  shrinkage of 0.1. (The package completes what main effects leave over, and measures every
  configuration at least once.)
- Meta-test takes the embeddings Y, right singular vectors, from the feasible columns alone, at rank
  5 where the text says 3. All errors are predicted by least squares on Y, measured ones too, and
  not clipped. QR-MF pivots on Y, which gives its first five configurations an order and the others
  none: they follow by index, small formats first. (The package pivots on the errors.)
- Memory is divided by the largest of the whole matrix: tasks of small images have short frontiers.
  (The package scales within the task.) Errors are divided by the largest prediction where it
  exceeds 1, and that is the hypervolumes' reference, with memory 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.paper.baselines import BAYESIAN, BAYESIAN_ASCENDING
from optuna_peppp import ErrorMatrix, MetaModel, pareto
from optuna_peppp.acquisition.design import qr_order
from optuna_peppp.acquisition.strategies import PAPER, Progress, Strategy
from optuna_peppp.completion.softimpute import soft_impute
from optuna_peppp.evaluation.splits import Split
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.prior import TaskPrior

RANK: Final = 5
SHRINKAGE: Final = 0.1

_NOTHING: Final = 1e-9
"""Singular values below this share of the first are zero."""


def qualities(
    memory: NDArray[np.float64],
    errors: NDArray[np.float64],
    predicted: NDArray[np.float64],
    largest_memory: float,
) -> tuple[float, float, float]:
    """Relative error, convergence and HyperDiff of a prediction, in their units.

    The measures of :mod:`optuna_peppp.evaluation.quality`, of arrays of shape (d,).
    """
    unit = max(1.0, float(predicted.max()))
    scaled = memory / largest_memory
    truth = np.column_stack((scaled, errors / unit))
    estimate = np.column_stack((scaled, predicted / unit))
    true, estimated = truth[pareto.frontier(truth)], estimate[pareto.frontier(estimate)]
    return (
        float(np.linalg.norm(predicted - errors) / np.linalg.norm(errors)),
        pareto.convergence(estimated, true),
        pareto.hyperdiff(estimated, true, (1.0, unit)),
    )


def memory_chances(memory: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    """Probabilities of non-uniform sampling: ``largest`` for the least memory, 0 for the most.

    Shape (n, d), as ``memory``. The package's :func:`optuna_peppp.corpora.sampling.probabilities`
    is never 0, and the same for equal memory.
    """
    ranks = rankdata(-memory, method="ordinal").reshape(memory.shape) - 1
    chances: NDArray[np.float64] = largest * ranks / (memory.size - 1)
    return chances


def draw(chances: NDArray[np.float64], seed: int | tuple[int, ...]) -> NDArray[np.bool_]:
    """Draws every entry independently; anew where none is drawn, in tiny matrices."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(chances.shape, dtype=np.bool_)
    while not drawn.any():
        drawn = rng.random(chances.shape) < chances
    return drawn


def complete(
    errors: NDArray[np.float64],
    drawn: NDArray[np.bool_],
    chances: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Completes ``errors`` (n, d) from those that were drawn, weighted where there are ``chances``.

    Weights are 1 / P. The package divides them by the largest, which is in the hundreds: so is the
    shrinkage, or it would be hundreds of times as strong as without weights.
    """
    weights, scale = None, 1.0
    if chances is not None:
        weights = np.divide(1.0, chances, out=np.zeros_like(chances), where=drawn)
        scale = weights.max()
    return soft_impute(
        np.where(drawn, errors, np.nan),
        shrinkage=SHRINKAGE / scale,
        rank=min(RANK, *errors.shape),
        weights=weights,
    ).matrix


def split(
    corpus: ErrorMatrix,
    row: int,
    *,
    memory_cap: float | None,
    rank: int = RANK,
    drawn: NDArray[np.bool_] | None = None,
    chances: NDArray[np.float64] | None = None,
) -> Split:
    """Leaves a task out and learns from the others, or from what was ``drawn`` of them.

    ``drawn`` and ``chances``, for weighted completion, have shape (n, d); the cap is in bytes.
    """
    others = np.arange(len(corpus.tasks)) != row
    errors = corpus.errors[others]
    if drawn is not None:
        errors = complete(errors, drawn[others], None if chances is None else chances[others])
    feasible = corpus.memory[row] <= (np.inf if memory_cap is None else memory_cap)
    _, values, right = np.linalg.svd(errors[:, feasible], full_matrices=False)
    # A completion may have a lower rank: what lies beyond is rounding.
    rank = min(rank, int((values > _NOTHING * values[0]).sum()))
    embeddings = np.zeros((len(feasible), rank))
    embeddings[feasible] = right[:rank].T
    mean = errors.mean(axis=0)
    # None of their techniques asks for a prior.
    factors = FactorModel(mean, embeddings, np.ones_like(mean))
    prior = TaskPrior((factors,), scales=np.ones((1, 2)), weights=np.ones((1, 1)))
    meta = MetaModel(
        corpus.space,
        tuple(task for task, other in zip(corpus.tasks, others, strict=True) if other),
        errors,
        embeddings,
        mean,
        np.zeros(len(feasible)),
        prior,
    )
    return Split(meta, corpus.memory[row], corpus.errors[row], feasible, feasible)


def _qr_mf(progress: Progress) -> int:
    return qr_order(progress.meta.embeddings.T, progress.feasible)[len(progress.indices)]


TECHNIQUES: Final[Mapping[str, Strategy]] = {
    **PAPER,
    "qr-mf": Strategy(_qr_mf),
    **BAYESIAN_ASCENDING,
    **BAYESIAN,
}
"""The authors' five, and Bayesian optimization as their text has it."""


def measure(task: Split, technique: Strategy, count: int, seed: int) -> list[int]:
    """The first ``count`` configurations that a technique measures, all where they are fewer."""
    ((measured, _),) = task.predictions(technique, (count,), seed)
    return list(measured)


def predict(task: Split, indices: Sequence[int]) -> NDArray[np.float64]:
    """Predicted errors of all configurations, shape (d,); meaningful where feasible."""
    embeddings, measured = task.meta.embeddings, list(indices)
    own = np.linalg.lstsq(embeddings[measured], task.errors[measured], rcond=None)[0]
    predicted: NDArray[np.float64] = embeddings @ own
    return predicted


def frontier(task: Split, indices: Sequence[int]) -> NDArray[np.intp]:
    """The feasible configurations of the predicted frontier, by growing memory."""
    feasible = np.flatnonzero(task.considered)
    points = np.column_stack((task.memory, predict(task, indices)))[feasible]
    return feasible[pareto.frontier(points)]
