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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.observations import SCALES, Shares, Tasks
from optuna_peppp.singular import leading

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
        left, values, right = leading(filled, rank)
        found = len(values)
        loadings = np.zeros((d, rank))
        loadings[:, :found] = right * values / np.sqrt(n)
        unexplained = filled - left * values @ right.T
        total = np.square(unexplained).mean(axis=0)
        # What counting on few images does not explain, a tenth at least.
        counting = 0.0 if tasks.binomial is None else (observed * tasks.binomial).sum(axis=0)
        noise = np.maximum(total - counting / observed.sum(axis=0), total / 10)
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
        found = tasks.explained(self.rows, self.spread, self.noise)
        joint = found.log_likelihood + np.log(self.weights)
        total = logsumexp(joint, axis=1)
        shares = np.exp(joint - total[:, None])
        weighted = shares / np.square(SCALES[:, 1])
        seconds = np.empty_like(self.seconds)
        seconds[:, 0, 0] = weighted.sum(axis=1)
        seconds[:, 0, 1:], seconds[:, 1:, 1:] = found.moments(weighted)
        seconds[:, 1:, 0] = seconds[:, 0, 1:]
        # Maximization: rows, noise, where rows come from, weights (Eqs. 5 to 8).
        once, twice = Sums.of(tasks, self.noise, seconds)
        rows, spread = self._learned(once.seconds, once.target)
        own = twice.residuals(rows, spread, self.noise) + tasks.counting(self.noise)
        noise = _noise(own, tasks.observed.sum(axis=0), noise_model)
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
        second = self.spread.sum(axis=0) + away.T @ away
        volume = len(self.rows) * np.linalg.slogdet(self.stiffness)[1]
        volume += np.linalg.slogdet(self.spread)[1].sum()
        return 0.5 * float(np.vdot(self.stiffness, second) - volume - self.rows.size)

    def model(self) -> FactorModel:
        """What this state tells of a new task."""
        return _model(self.rows, self.spread, self.noise)

    def left_out(
        self, tasks: Tasks, noise_model: NoiseModel, indices: NDArray[np.intp]
    ) -> Iterator[tuple[FactorModel, NDArray[np.float64]]]:
        """What this state, had it not seen one of the tasks, would tell of it; for some tasks.

        Rows and noise are computed again without the task: its summands are taken off Eqs. 5 and 6,
        where it was observed; elsewhere they are nothing. The latents of the others stay, and where
        rows come from, which depend on it little.

        Yields:
            The model, and the log likelihood (g,) of the task under it.
        """
        once, twice = Sums.of(tasks, self.noise, self.seconds)
        rows, spread = self._learned(once.seconds, once.target)
        sums = twice.residuals(self.rows, self.spread, self.noise) + tasks.counting(self.noise)
        counts = tasks.observed.sum(axis=0)
        for task in indices.tolist():
            seen = np.flatnonzero(tasks.observed[task])
            part, seconds, noise = tasks.part(task, seen), self.seconds[[task]], self.noise[seen]
            mine, mine_twice = Sums.of(part, noise, seconds)
            others, uncertain = rows.copy(), spread.copy()
            others[seen], uncertain[seen] = self._learned(
                once.seconds[seen] - mine.seconds, once.target[seen] - mine.target
            )
            other_sums, other_counts = sums.copy(), counts.copy()
            other_sums[seen] -= mine_twice.residuals(self.rows[seen], self.spread[seen], noise)
            other_sums[seen] -= part.counting(noise)
            other_counts[seen] -= 1
            model = _model(others, uncertain, _noise(other_sums, other_counts, noise_model))
            certain = np.zeros_like(uncertain[seen])
            found = part.explained(others[seen], certain, model.noise[seen])
            yield model, found.log_likelihood[0]

    def _learned(
        self, inverse: NDArray[np.float64], target: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows (d, k + 1) and their covariance, from the sums of Eq. 5 over tasks."""
        spread = np.asarray(np.linalg.inv(inverse + self.stiffness), dtype=np.float64)
        return np.einsum("dij,dj->di", spread, target + self.stiffness @ self.centre), spread


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums over tasks of Eqs. 5 and 6, each configuration's apart.

    Attributes:
        seconds: Shape (d, k + 1, k + 1), of u S.
        target: Shape (d, k + 1), of u x S (1, 0)'.
        squares: Shape (d,), of u x^2 S_00.
    """

    seconds: NDArray[np.float64]
    target: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(
        cls, tasks: Tasks, noise: NDArray[np.float64], seconds: NDArray[np.float64]
    ) -> tuple[Self, Self]:
        """The sums, and those with f u in place of u."""
        once = cls._of(tasks.shares(noise), noise, seconds)
        # Where nothing is known of test images, f is 1.
        same = tasks.binomial is None
        return once, once if same else cls._of(tasks.shares(noise, 2), noise, seconds)

    @classmethod
    def _of(cls, shares: Shares, noise: NDArray[np.float64], seconds: NDArray[np.float64]) -> Self:
        (zeroth, first, second), (n, *square) = shares, seconds.shape
        return cls(
            (zeroth.T @ seconds.reshape(n, -1)).reshape(-1, *square) / noise[:, None, None],
            first.T @ np.ascontiguousarray(seconds[:, 0]) / noise[:, None],
            seconds[:, 0, 0] @ second / noise,
        )

    def residuals(
        self,
        rows: NDArray[np.float64],
        spread: NDArray[np.float64],
        noise: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Shape (d,), the sum of f^2 E[(x - m' (1, z))^2] / b^2, from sums with f u."""
        products = rows[:, :, None] * rows[:, None] + spread
        squares = self.squares - 2 * np.einsum("dk,dk->d", self.target, rows)
        squares += np.einsum("dkl,dkl->d", self.seconds, products)
        own: NDArray[np.float64] = noise * squares
        return own


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
