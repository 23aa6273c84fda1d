"""The prior of a new task where past ones left configurations unmeasured: one for all there is.

Notation: the cold prior (:mod:`optuna_peppp.meta.cold_start`) says of a task that its errors are
mean + Y u_t + noise, u_t ~ N(0, I), noise_j ~ N(0, v_j). Tasks have a part of it in common,

    u_t = a (f + z_t),   f ~ N(0, rho I),   z_t ~ N(0, (1 - rho) I),                             (1)

rho being the similarity of tasks, a and b the scales of latent and noise: without past tasks, that
is the cold prior. Of past task t, with loadings Y_t, noise variances N_t and residuals r_t from the
mean, let Y_t' N_t^-1 Y_t = U diag(l) U' and q = U' Y_t' N_t^-1 r_t. What it says of the common
part, its own integrated out, c = a^2 (1 - rho), is a Gaussian of precision and shift

    P_t = U diag(l / (b^2 + c l)) U',   p_t = U (q / (b^2 + c l)),                               (2)

and its log likelihood given f = 0 is, with m_t measurements,

    -2 log p_t = m_t log(2 pi b^2) + log det N_t + sum log(1 + c l / b^2)
                 + (r_t' N_t^-1 r_t - sum c q^2 / (b^2 + c l)) / b^2.                            (3)

So a f given all past tasks is N(m, C), and their likelihood

    C^-1 = I / (a^2 rho) + sum_t P_t,   m = C sum_t p_t,                                         (4)
    log p = sum_t log p_t + (m' C^-1 m - log det(a^2 rho C^-1)) / 2,                             (5)

and a new task has the factor model

    mean + Y m,   loadings Y chol(C + a^2 (1 - rho) I),   noise variances b^2 v.                 (6)

What was never measured moves with what was, as far as the kernel says that they are alike. The cold
prior's models, similarities and scales are averaged by the likelihood of the past tasks (Eq. 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.prior import TaskPrior

_SIMILARITIES: Final = (0.5, 0.8, 0.95)
"""rho."""

_LATENT: Final = (0.5, 1.0, 2.0)
_NOISE: Final = (0.5, 1.0, 2.0, 4.0)
"""a and b; a priori they are 1, give or take a factor of two."""

_NEGLIGIBLE: Final = 0.01
"""Models less likely than this, relative to the most likely, are left out."""

_MOST: Final = 12
"""Models that are averaged, at most."""

_LARGEST: Final = 6 * 10**7
"""Entries of their loadings at most, of 8 bytes each."""


class Setting(NamedTuple):
    """A model of the cold prior, by its place, and what Eq. 1 leaves open."""

    model: int
    similarity: float
    latent: float
    noise: float


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What n past tasks say of the latents of one of the cold prior's models.

    Attributes:
        values: Shape (n, k), l.
        vectors: Shape (n, k, k), U, the eigenvectors as columns.
        projected: Shape (n, k), q.
        squares: Shape (n,), r' N^-1 r.
        log_noise: Shape (n,), log det N.
        counts: Shape (n,), numbers of measurements.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    projected: NDArray[np.float64]
    squares: NDArray[np.float64]
    log_noise: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, model: FactorModel, errors: NDArray[np.float64]) -> Self:
        """From errors (n, d), NaN where unobserved."""
        k = model.rank
        precision, target = np.empty((len(errors), k, k)), np.empty((len(errors), k))
        sums = np.empty((3, len(errors)))
        for task, row in enumerate(errors):
            seen = np.flatnonzero(~np.isnan(row))
            loadings, noise = model.loadings[seen], model.noise[seen]
            residual = row[seen] - model.mean[seen]
            weighted = loadings.T / noise
            precision[task], target[task] = weighted @ loadings, weighted @ residual
            sums[:, task] = (residual**2 / noise).sum(), np.log(noise).sum(), len(seen)
        values, vectors = np.linalg.eigh(precision)
        projected = (target[:, None] @ vectors)[:, 0]
        return cls(np.maximum(values, 0.0), vectors, projected, *sums)

    def without(self, task: int) -> Evidence:
        """What the other tasks say."""
        others = np.arange(len(self.counts)) != task
        return Evidence(*(getattr(self, name)[others] for name in Evidence.__slots__))

    def common(self, setting: Setting) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Mean (k,) and covariance (k, k) of a f, and the likelihood's logarithm (Eqs. 2 to 5)."""
        variance = setting.noise**2
        shared = setting.latent**2 * setting.similarity
        own = setting.latent**2 - shared
        shrunk = 1 / (variance + own * self.values)
        alone = -0.5 * (  # Eq. 3
            self.counts * np.log(2 * np.pi * variance)
            + self.log_noise
            - np.log(variance * shrunk).sum(axis=1)
            + (self.squares - own * (shrunk * self.projected**2).sum(axis=1)) / variance
        )
        k = self.values.shape[1]
        sides = np.swapaxes(self.vectors, 0, 1)
        weighted = sides * (self.values * shrunk)
        inverse = weighted.reshape(k, -1) @ sides.reshape(k, -1).T  # Eqs. 2 and 4
        inverse += np.eye(k) / shared
        target = sides.reshape(k, -1) @ (self.projected * shrunk).ravel()
        covariance = np.asarray(np.linalg.inv(inverse), dtype=np.float64)
        mean = covariance @ target
        volume = np.linalg.slogdet(inverse * shared)[1]
        return mean, covariance, float(alone.sum() + 0.5 * (mean @ target - volume))  # Eq. 5


@dataclass(frozen=True, slots=True, eq=False)
class WarmStart:
    """The cold prior's models, and what past tasks say of them.

    Attributes:
        cold: The cold prior.
        evidence: Of all its models.
        settings: The r most likely ones, the most likely first.
        weights: Shape (r,), of these, sum 1.
    """

    cold: TaskPrior
    evidence: tuple[Evidence, ...]
    settings: tuple[Setting, ...]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, cold: TaskPrior, errors: NDArray[np.float64]) -> Self:
        """Learns which settings are likely.

        Args:
            cold: Of d configurations, on errors as they are.
            errors: Shape (n, d), of past tasks, NaN where unobserved; n >= 1.
        """
        evidence = tuple(Evidence.of(model, errors) for model in cold.models)
        settings = [
            Setting(*one) for one in product(range(len(evidence)), _SIMILARITIES, _LATENT, _NOISE)
        ]
        expected = np.log(cold.weights.sum(axis=1))
        likelihood = np.array(
            [
                evidence[one.model].common(one)[2]
                + expected[one.model]
                - 0.5 * np.square(np.log([one.latent, one.noise]) / np.log(2)).sum()
                for one in settings
            ]
        )
        most = min(_MOST, max(1, _LARGEST // cold.models[0].loadings.size))
        order = np.argsort(-likelihood, kind="stable")[:most]
        weights = np.exp(likelihood[order] - likelihood[order[0]])
        order, weights = order[weights > _NEGLIGIBLE], weights[weights > _NEGLIGIBLE]
        return cls(cold, evidence, tuple(settings[i] for i in order), weights / weights.sum())

    def prior(self) -> TaskPrior:
        """The prior of a new task."""
        return self._prior(self.evidence, slice(None))

    def left_out(
        self, tasks: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> Iterator[tuple[int, TaskPrior]]:
        """Each of these tasks, with its prior had it not been seen; the settings stay.

        Args:
            tasks: Shape (t,), rows.
            columns: Shape (m,), the configurations of the priors.
        """
        for task in tasks.tolist():
            yield task, self._prior(tuple(one.without(task) for one in self.evidence), columns)

    def _prior(
        self, evidence: tuple[Evidence, ...], columns: slice | NDArray[np.intp]
    ) -> TaskPrior:
        models = []
        for setting in self.settings:
            model = self.cold.models[setting.model]
            mean, covariance, _ = evidence[setting.model].common(setting)
            own = setting.latent**2 * (1 - setting.similarity)
            root = np.linalg.cholesky(covariance + own * np.eye(len(mean)))
            models.append(  # Eq. 6
                FactorModel(
                    model.mean[columns] + model.loadings[columns] @ mean,
                    model.loadings[columns] @ root,
                    setting.noise**2 * model.noise[columns],
                )
            )
        weights = np.outer(self.weights, self.cold.weights.sum(axis=0))
        return TaskPrior(tuple(models), self.cold.scales, weights)
