"""What the paper compares ED-MF with: Bayesian optimization, the highest memory, convex designs.

The Bayesian ones are strategies of :class:`optuna_peppp.evaluation.leave_one_out.Evaluation`. The
paper's text maximizes expected improvement (E.1); its authors' runs took the smallest, by an
ascending sort. Both are here: ``bo-mf`` and ``bo-full`` as in the text, ``-ascending`` as in the
runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, LinearConstraint, minimize
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from optuna_peppp.acquisition.design import random_order
from optuna_peppp.acquisition.strategies import Progress, Strategy

RANDOM_STARTS: Final = 5
XI: Final = 0.01
LENGTH_SCALE: Final = 20.0
NOISE_VARIANCE: Final = 1.0

_SAME_MEMORY: Final = 1e-9
"""Sums of the same bytes in another order are equal."""


@dataclass(frozen=True, slots=True)
class BayesianOptimization:
    """Expected improvement of a Gaussian process over configurations (paper, E.1).

    The first five configurations are random, the same as random-mf's. The process has mean zero
    and fixed hyperparameters, as in the paper, which chose them on a grid: nothing is fitted. A
    configuration is described by its embedding (BO-MF), or its errors on the past tasks (BO-FULL).
    """

    features: Literal["embeddings", "errors"]
    ascending: bool = False

    def __call__(self, progress: Progress) -> int:
        """The next configuration."""
        meta, feasible, indices = progress.meta, progress.feasible, progress.indices
        errors = progress.errors
        if len(indices) < RANDOM_STARTS:
            return random_order(len(feasible), progress.seed, feasible)[len(indices)]
        points = meta.embeddings if self.features == "embeddings" else meta.errors.T
        available = feasible.copy()
        available[list(indices)] = False
        candidates = np.flatnonzero(available)
        process = GaussianProcessRegressor(
            RBF(LENGTH_SCALE) + WhiteKernel(NOISE_VARIANCE), optimizer=None
        ).fit(points[list(indices)], errors)
        # The standard deviation is that of a new measurement, white noise included.
        mean, std = process.predict(points[candidates], return_std=True)
        gains = expected_improvement(mean, std, min(errors))
        return int(candidates[gains.argmin() if self.ascending else gains.argmax()])


BAYESIAN: Final[Mapping[str, Strategy]] = {
    "bo-mf": Strategy(BayesianOptimization("embeddings")),
    "bo-full": Strategy(BayesianOptimization("errors")),
}
"""As the paper's text has them."""

BAYESIAN_ASCENDING: Final[Mapping[str, Strategy]] = {
    "bo-mf-ascending": Strategy(BayesianOptimization("embeddings", ascending=True)),
    "bo-full-ascending": Strategy(BayesianOptimization("errors", ascending=True)),
}
"""As the paper's authors ran them."""


def expected_improvement(
    mean: ArrayLike, std: ArrayLike, best: float, xi: float = XI
) -> NDArray[np.float64]:
    """Expectation of max(best - f - xi, 0) for normal f: errors are minimized (paper, E.1).

    >>> expected_improvement([0.5], [1.0], 0.5, xi=0.0).round(4)
    array([0.3989])
    """
    spread = np.asarray(std, dtype=np.float64)
    gain = best - np.asarray(mean, dtype=np.float64) - xi
    expected: NDArray[np.float64] = gain * norm.cdf(gain / spread) + spread * norm.pdf(
        gain / spread
    )
    return expected


def highest_memory(memory: ArrayLike, feasible: ArrayLike, seed: int) -> int:
    """A random configuration among those of the highest allowable memory (paper, Figure 12).

    >>> highest_memory([1, 3, 2, 4], [True, True, True, False], seed=0)
    1
    """
    allowed = np.where(feasible, np.asarray(memory, dtype=np.float64), -np.inf)
    largest = np.flatnonzero(allowed >= allowed.max() * (1 - _SAME_MEMORY))
    return int(np.random.default_rng(seed).choice(largest))


@dataclass(frozen=True, slots=True, eq=False)
class ConvexDesign:
    """A solution of the convex relaxation of D-optimal design (paper, Problem 2).

    The shares v* (d,) are in [0, 1]; chosen are the configurations of the largest, largest first.
    """

    shares: NDArray[np.float64]
    chosen: list[int]
    converged: bool


def convex_design(embeddings: ArrayLike, count: int, *, max_iterations: int = 1000) -> ConvexDesign:
    """Maximizes log det of the sum of v_j y_j y_j' by scipy's SLSQP and rounds (paper, Problem 2).

    Unlike a greedy design it is not nested: another ``count``, from k to d, is another problem.
    ``embeddings`` are Y, shape (d, k); SLSQP starts from equal shares.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    d = len(vectors)
    # Their scale changes no solution, only what SLSQP takes for small.
    vectors = vectors / np.sqrt(np.square(vectors).sum(axis=1).mean())

    def loss(shares: NDArray[np.float64]) -> float:
        return -float(np.linalg.slogdet((vectors.T * shares) @ vectors)[1])

    def gradient(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        spread = np.linalg.solve((vectors.T * shares) @ vectors, vectors.T)
        slope: NDArray[np.float64] = -np.einsum("jk,kj->j", vectors, spread)
        return slope

    solution = minimize(
        loss,
        np.full(d, count / d),
        jac=gradient,
        method="SLSQP",
        bounds=Bounds(0.0, 1.0),
        constraints=LinearConstraint(np.ones((1, d)), ub=count),
        options={"maxiter": max_iterations, "ftol": 1e-9},
    )
    shares = np.clip(solution.x, 0.0, 1.0)
    chosen = np.argsort(-shares, kind="stable")[:count].tolist()
    return ConvexDesign(shares, chosen, bool(solution.success))
