"""Factor models of past tasks, by variational EM.

The model is that of :mod:`optuna_peppp.meta.prior`, here for n tasks t of which some entries are
observed. Its rows m_j = (mean_j, y_j) are learned with their uncertainty: all come from one
Gaussian of unknown mean and covariance, so that a configuration that was seldom measured resembles
the others, and a dimension that nothing speaks for shrinks away. Unobserved entries do not enter:
nothing is imputed. An iteration takes O(n d k^2) operations. It is variational principal component
analysis (Bishop, 1999) with missing entries (Ilin and Raiko, 2010) and scales for every task.

Notation, beside the prior's: o_tj is 1 where x_tj is observed, else 0; (a_g, b_g) are the scales of
the grid and w_g their weights, p_g before any task was seen; u_tj = o_tj / (v_j + c_tj); the rows
have q(m_j) = N(r_j, R_j) and come from N(s, L^-1). The lower bound of the log likelihood is

    B = sum_t log sum_g w_g exp l_tg + sum_g p_g log w_g - sum_j KL(q(m_j) || N(s, L^-1)),       (1)

where l_tg is the log likelihood of task t at scales g, its latent integrated out, expected over the
rows: that of given rows in which products of rows are replaced by their expectations,

    y y' + R_yy,   (x - mean) y - R_0y,   (x - mean)^2 + R_00.                                   (2)

An iteration computes, in this order,

    h_tg = w_g exp l_tg / sum_g w_g exp l_tg,     how much scale g explains task t,              (3)
    S_t = sum_g h_tg E[(1, z_t)(1, z_t)' | g] / b_g^2,                                           (4)
    R_j^-1 = L + sum_t u_tj S_t,   r_j = R_j (L s + sum_t u_tj x_tj S_t (1, 0)'),                (5)
    v_j = mean over t of f^2 E[(x_tj - m_j' (1, z_t))^2] / b^2 + f c_tj,                         (6)
    s = mean_j r_j,   L^-1 = mean_j (r_j - s)(r_j - s)' + R_j,                                   (7)
    w_g proportional to sum_t h_tg + p_g,                                                        (8)

with f = v_j / (v_j + c_tj), and where noise is shared, the mean of Eq. 6 over all j as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.observations import SCALES, Tasks

NoiseModel = Literal["own", "shared"]
"""A noise variance for every configuration, or one for all."""


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


@dataclass(frozen=True, slots=True, eq=False)
class State:
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
    def start(cls, tasks: Tasks, rank: int) -> State:
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
        total = np.square(unexplained).mean(axis=0)
        # What counting on few images does not explain, a tenth at least.
        counting = (observed * tasks.binomial).sum(axis=0) / observed.sum(axis=0)
        noise = np.maximum(total - counting, total / 10)
        rows = np.column_stack((mean, loadings))
        centre = rows.mean(axis=0)
        around = (rows - centre).T @ (rows - centre) / d
        return cls(
            rows=rows,
            spread=np.tile(_RIDGE * np.eye(rank + 1), (d, 1, 1)),
            noise=np.maximum((noise + noise.mean()) / 2, _SMALLEST),
            centre=centre,
            stiffness=np.linalg.inv(around + _RIDGE * np.eye(rank + 1)),
            weights=EXPECTED,
            seconds=np.zeros((n, rank + 1, rank + 1)),
        )

    def improved(self, tasks: Tasks, noise_model: NoiseModel) -> tuple[State, float]:
        """One iteration; and the lower bound of the log likelihood that this state had (Eq. 1)."""
        # Expectation: the latents of all tasks, and which scales they have (Eqs. 3 and 4).
        latent, covariance, likelihood = tasks.explained(self.rows, self.spread, self.noise)
        joint = likelihood + np.log(self.weights)
        total = logsumexp(joint, axis=1)
        shares = np.exp(joint - total[:, None])
        weighted = shares / np.square(SCALES[:, 1])
        seconds = np.empty_like(self.seconds)
        seconds[:, 0, 0] = weighted.sum(axis=1)
        seconds[:, 0, 1:] = seconds[:, 1:, 0] = np.einsum("ng,ngk->nk", weighted, latent)
        seconds[:, 1:, 1:] = np.einsum("ng,ngk,ngl->nkl", weighted, latent, latent, optimize=True)
        seconds[:, 1:, 1:] += np.einsum("ng,ngkl->nkl", weighted, covariance)
        # Maximization: rows, noise, where rows come from, weights (Eqs. 5 to 8).
        inverse, target = self._sums(tasks, seconds)
        spread = np.asarray(np.linalg.inv(inverse), dtype=np.float64)
        rows = np.einsum("dij,dj->di", spread, target)
        own = self._own_noise(tasks, rows, spread, seconds)
        noise = _noise(own.sum(axis=0), tasks.observed.sum(axis=0), noise_model)
        centre = rows.mean(axis=0)
        around = (rows - centre).T @ (rows - centre) / len(rows) + spread.mean(axis=0)
        counted = shares.sum(axis=0) + EXPECTED
        state = State(
            rows,
            spread,
            noise,
            centre,
            np.linalg.inv(around + _RIDGE * np.eye(len(centre))),
            counted / counted.sum(),
            seconds,
        )
        return state, float(total.sum() + EXPECTED @ np.log(self.weights)) - self._divergence()

    def _divergence(self) -> float:
        """Kullback-Leibler divergence of the rows from the Gaussian that they come from."""
        away = self.rows - self.centre
        return 0.5 * float(
            np.einsum("ij,dij->", self.stiffness, self.spread + away[:, :, None] * away[:, None, :])
            - np.linalg.slogdet(self.stiffness @ self.spread)[1].sum()
            - self.rows.size
        )

    def _own_noise(
        self,
        tasks: Tasks,
        rows: NDArray[np.float64],
        spread: NDArray[np.float64],
        seconds: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Shape (n, d), expected square of a residual, of what is not from counting images (Eq. 6).

        Of a residual whose variance is v + c, the part of variance v has the expectation
        f = v / (v + c) times it, and the variance f c.
        """
        n, d = tasks.values.shape
        products = (rows[:, :, None] * rows[:, None, :] + spread).reshape(d, -1)
        squares = (
            seconds[:, 0, :1] * np.square(tasks.values)
            - 2 * tasks.values * (seconds[:, 0] @ rows.T)
            + seconds.reshape(n, -1) @ products.T
        )
        share = self.noise / (self.noise + tasks.binomial)
        own: NDArray[np.float64] = tasks.observed * (share**2 * squares + share * tasks.binomial)
        return own

    def model(self) -> FactorModel:
        """What this state tells of a new task."""
        return _model(self.rows, self.spread, self.noise)

    def left_out(self, tasks: Tasks, noise_model: NoiseModel) -> tuple[FactorModel, ...]:
        """What this state, had it not seen one of the tasks, would tell of it; for each.

        Rows and noise are computed again without the task: its summands are taken off Eqs. 5 and 6.
        The latents of the others stay, and where rows come from, which depend on it little.
        """
        inverse, target = self._sums(tasks, self.seconds)
        weights = tasks.precision(self.noise)
        own = self._own_noise(tasks, self.rows, self.spread, self.seconds)
        sums, counts = own.sum(axis=0), tasks.observed.sum(axis=0)
        models = []
        for weight, value, second, mine, seen in zip(
            weights, tasks.values, self.seconds, own, tasks.observed, strict=True
        ):
            spread = np.linalg.inv(inverse - weight[:, None, None] * second)
            without = target - (weight * value)[:, None] * second[0]
            rows = np.einsum("dij,dj->di", spread, without)
            noise = _noise(sums - mine, counts - seen, noise_model)
            models.append(_model(rows, spread, noise))
        return tuple(models)

    def _sums(
        self, tasks: Tasks, seconds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Inverse covariance (d, k + 1, k + 1) of the rows, and it times their mean (Eq. 5)."""
        n, d = tasks.values.shape
        weights = tasks.precision(self.noise)
        inverse = (weights.T @ seconds.reshape(n, -1)).reshape(d, *self.stiffness.shape)
        target = (weights * tasks.values).T @ seconds[:, 0]
        return inverse + self.stiffness, target + self.stiffness @ self.centre


def _noise(
    sums: NDArray[np.float64], counts: NDArray[np.float64], noise_model: NoiseModel
) -> NDArray[np.float64]:
    """Noise variances (d,), of squares that were summed over so many observations."""
    pooled = sums.sum() / counts.sum()
    if noise_model == "own":
        noise = (sums + _POOLED * pooled) / (counts + _POOLED)
    else:
        noise = np.full(len(sums), pooled)
    return np.asarray(np.maximum(noise, _SMALLEST), dtype=np.float64)


def _model(
    rows: NDArray[np.float64], spread: NDArray[np.float64], noise: NDArray[np.float64]
) -> FactorModel:
    """Uncertain rows as a model: what is uncertain of them is noise to a new task."""
    return FactorModel(rows[:, 0], rows[:, 1:], noise + np.trace(spread, axis1=1, axis2=2))
