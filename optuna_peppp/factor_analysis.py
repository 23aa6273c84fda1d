"""Factor models of past tasks, by variational EM.

The model is that of :mod:`optuna_peppp.posterior`. Its rows m_j = (mean_j, y_j) are learned with
their uncertainty: all come from one Gaussian of unknown mean and covariance, so that a
configuration that was seldom measured resembles the others, and a dimension that nothing speaks for
shrinks away. Unobserved entries do not enter: nothing is imputed. An iteration takes O(n d k^2)
operations, for n tasks, d configurations and rank k.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from optuna_peppp.posterior import FactorModel, explain
from optuna_peppp.transforms import Transform, binomial_variance, transformed

NoiseModel = Literal["own", "shared"]
"""A noise variance for every configuration, or one for all."""

SCALES: Final = np.array(list(product(2.0 ** np.arange(-1, 4), 2.0 ** np.arange(-2, 2.5, 0.5))))
"""Shape (g, 2), of the latent and of the noise: a task may lie eight times as far out as past ones
do, and be four times as noisy, or as clean."""

_USUAL = np.exp(-0.5 * np.square(np.log(SCALES) / 0.7).sum(axis=1))
EXPECTED: Final = _USUAL / _USUAL.sum()
"""Shape (g,), the weights of the scales before any task is seen: 1, give or take a factor of two.
Counts as one task."""

_POOLED: Final = 3.0
"""Observations of the mean noise that every configuration's own is joined by."""

_SMALLEST: Final = 1e-7
"""Noise variance, at least: errors are counted on finitely many images."""

_RIDGE: Final = 1e-9
"""Keeps the covariance of the rows regular."""

_ITERATIONS: Final = 60
_STILL: Final = 1e-4
"""Relative growth of the likelihood at which EM stops."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A factor model of all tasks, and those that did not see one of them.

    Attributes:
        transform: How errors enter.
        model: Of all n tasks.
        left_out: Without one of the tasks, for each.
        likelihood: Shape (n, g), logarithm: of each task, left out, at every scale.
    """

    transform: Transform
    model: FactorModel
    left_out: tuple[FactorModel, ...]
    likelihood: NDArray[np.float64]

    @classmethod
    def to(
        cls,
        errors: NDArray[np.float64],
        test_images: NDArray[np.float64] | None,
        transform: Transform,
        noise: NoiseModel,
        rank: int,
    ) -> Self:
        """Fits a model, and those that are left out of it.

        Args:
            errors: Shape (n, d), NaN where unobserved; every row and column is observed somewhere.
            test_images: Shape (n,), how many images errors were counted on, where known.
            transform: How errors enter.
            noise: Whether configurations have noise variances of their own.
            rank: Dimensions of the latent.
        """
        tasks = _Tasks.of(errors, test_images, transform)
        state = _State.start(tasks, rank)
        likelihood = -np.inf
        for _ in range(_ITERATIONS):
            state, reached = state.improved(tasks, noise)
            if reached - likelihood < _STILL * abs(reached):
                break
            likelihood = reached
        left_out = state.left_out(tasks)
        likelihoods = [tasks.row(row).explained(model)[2][0] for row, model in enumerate(left_out)]
        return cls(transform, state.model(), left_out, np.array(likelihoods))


@dataclass(frozen=True, slots=True, eq=False)
class _Tasks:
    """What was measured, transformed.

    Attributes:
        values: Shape (n, d), 0 where unobserved.
        observed: Shape (n, d), 1 where observed, else 0.
        binomial: Shape (n, d), variance from counting on few images.
    """

    values: NDArray[np.float64]
    observed: NDArray[np.float64]
    binomial: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        errors: NDArray[np.float64],
        test_images: NDArray[np.float64] | None,
        transform: Transform,
    ) -> _Tasks:
        unobserved = np.isnan(errors)
        filled = np.where(unobserved, 0.5, errors)
        images = None if test_images is None else test_images[:, None]
        return cls(
            np.where(unobserved, 0.0, transformed(filled, transform)),
            1.0 - unobserved,
            binomial_variance(filled, images, transform),
        )

    def precision(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (n, d), of every measurement at noise scale 1; 0 where unobserved."""
        weights: NDArray[np.float64] = self.observed / (noise + self.binomial)
        return weights

    def explained(
        self, model: FactorModel
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The latents of all tasks, and the likelihoods, as :func:`posterior.explain` has them."""
        loadings, noise = model.loadings, model.noise
        (d, k), n = loadings.shape, len(self.values)
        weights = self.precision(noise)
        residual = self.values - model.mean
        products = (loadings[:, :, None] * loadings[:, None, :]).reshape(d, k * k)
        return explain(
            (weights @ products).reshape(n, k, k),
            (weights * residual) @ loadings,
            np.einsum("nd,nd->n", weights, np.square(residual)),
            np.einsum("nd,nd->n", self.observed, np.log(noise + self.binomial)),
            np.count_nonzero(self.observed, axis=1),
            SCALES,
        )

    def row(self, row: int) -> _Tasks:
        """One of the tasks alone."""
        kept = slice(row, row + 1)
        return _Tasks(self.values[kept], self.observed[kept], self.binomial[kept])


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """The state of the variational EM.

    Attributes:
        rows: Shape (d, k + 1), expected (mean_j, y_j).
        spread: Shape (d, k + 1, k + 1), their covariance.
        noise: Shape (d,), v_j.
        centre: Shape (k + 1,), mean of the Gaussian that the rows come from.
        stiffness: Shape (k + 1, k + 1), inverse of its covariance.
        weights: Shape (g,), of the scales.
        seconds: Shape (n, k + 1, k + 1), expected (1, z)(1, z)' over the squared noise scale.
    """

    rows: NDArray[np.float64]
    spread: NDArray[np.float64]
    noise: NDArray[np.float64]
    centre: NDArray[np.float64]
    stiffness: NDArray[np.float64]
    weights: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @classmethod
    def start(cls, tasks: _Tasks, rank: int) -> _State:
        """From the singular vectors of the tasks, their gaps filled with main effects."""
        n, d = tasks.values.shape
        observed = tasks.observed
        mean = tasks.values.sum(axis=0) / observed.sum(axis=0)
        residual = observed * (tasks.values - mean)
        level = residual.sum(axis=1) / observed.sum(axis=1)
        filled = np.where(observed > 0, residual, level[:, None])
        left, values, right = np.linalg.svd(filled, full_matrices=False)
        loadings = np.zeros((d, rank))
        found = min(rank, len(values))
        loadings[:, :found] = right[:found].T * values[:found] / np.sqrt(n)
        unexplained = filled - left[:, :found] * values[:found] @ right[:found]
        noise = np.square(unexplained).mean(axis=0)
        rows = np.column_stack((mean, loadings))
        centre = rows.mean(axis=0)
        around = (rows - centre).T @ (rows - centre) / d
        return cls(
            rows=rows,
            spread=np.zeros((d, rank + 1, rank + 1)),
            noise=np.maximum((noise + noise.mean()) / 2, _SMALLEST),
            centre=centre,
            stiffness=np.linalg.inv(around + _RIDGE * np.eye(rank + 1)),
            weights=EXPECTED,
            seconds=np.zeros((n, rank + 1, rank + 1)),
        )

    def improved(self, tasks: _Tasks, noise_model: NoiseModel) -> tuple[_State, float]:
        """One iteration; and the log likelihood that this state had."""
        n, d = tasks.values.shape
        # Expectation: the latents of all tasks, and which scales they have.
        latent, covariance, likelihood = tasks.explained(
            FactorModel(self.rows[:, 0], self.rows[:, 1:], self.noise)
        )
        joint = likelihood + np.log(self.weights)
        total = logsumexp(joint, axis=1)
        shares = np.exp(joint - total[:, None])
        weighted = shares / np.square(SCALES[:, 1])
        seconds = np.empty_like(self.seconds)
        seconds[:, 0, 0] = weighted.sum(axis=1)
        seconds[:, 0, 1:] = seconds[:, 1:, 0] = np.einsum("ng,ngk->nk", weighted, latent)
        seconds[:, 1:, 1:] = np.einsum("ng,ngk,ngl->nkl", weighted, latent, latent, optimize=True)
        seconds[:, 1:, 1:] += np.einsum("ng,ngkl->nkl", weighted, covariance)
        # Maximization: rows, noise, where rows come from, weights.
        inverse, target = self._sums(tasks, seconds)
        spread = np.asarray(np.linalg.inv(inverse), dtype=np.float64)
        rows = np.einsum("dij,dj->di", spread, target)
        products = (rows[:, :, None] * rows[:, None, :] + spread).reshape(d, -1)
        squares = (
            seconds[:, 0, :1] * np.square(tasks.values)
            - 2 * tasks.values * (seconds[:, 0] @ rows.T)
            + seconds.reshape(n, -1) @ products.T
        )
        # Of a residual's variance, the share that is not from counting on few images.
        share = self.noise / (self.noise + tasks.binomial)
        own = (tasks.observed * (share**2 * squares + share * tasks.binomial)).sum(axis=0)
        counts = tasks.observed.sum(axis=0)
        pooled = own.sum() / counts.sum()
        if noise_model == "own":
            noise = (own + _POOLED * pooled) / (counts + _POOLED)
        else:
            noise = np.full(d, pooled)
        centre = rows.mean(axis=0)
        around = (rows - centre).T @ (rows - centre) / d + spread.mean(axis=0)
        counted = shares.sum(axis=0) + EXPECTED
        state = _State(
            rows,
            spread,
            np.maximum(noise, _SMALLEST),
            centre,
            np.linalg.inv(around + _RIDGE * np.eye(len(centre))),
            counted / counted.sum(),
            seconds,
        )
        return state, float(total.sum())

    def model(self) -> FactorModel:
        """What this state tells of a new task."""
        return _model(self.rows, self.spread, self.noise)

    def left_out(self, tasks: _Tasks) -> tuple[FactorModel, ...]:
        """What this state, had it not seen one of the tasks, would tell of it; for each.

        The rows are computed again without the task; the latents of the others stay, which
        depend on it only by the rows.
        """
        inverse, target = self._sums(tasks, self.seconds)
        weights = tasks.precision(self.noise)
        models = []
        for weight, value, second in zip(weights, tasks.values, self.seconds, strict=True):
            spread = np.linalg.inv(inverse - weight[:, None, None] * second)
            without = target - (weight * value)[:, None] * second[0]
            rows = np.einsum("dij,dj->di", spread, without)
            models.append(_model(rows, spread, self.noise))
        return tuple(models)

    def _sums(
        self, tasks: _Tasks, seconds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Inverse covariance (d, k + 1, k + 1) of the rows, and the same times their mean."""
        n, d = tasks.values.shape
        weights = tasks.precision(self.noise)
        inverse = (weights.T @ seconds.reshape(n, -1)).reshape(d, *self.stiffness.shape)
        target = (weights * tasks.values).T @ seconds[:, 0]
        return inverse + self.stiffness, target + self.stiffness @ self.centre


def _model(
    rows: NDArray[np.float64], spread: NDArray[np.float64], noise: NDArray[np.float64]
) -> FactorModel:
    """Uncertain rows as a model: what is uncertain of them is noise to a new task."""
    return FactorModel(rows[:, 0], rows[:, 1:], noise + np.trace(spread, axis1=1, axis2=2))
