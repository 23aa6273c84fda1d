"""Past tasks as worlds: each of them, residuals and all, as a draw of what the new task may be.

Notation: e_t (d,) are the errors of past task t of n, S the m measured configurations of the new
task, y (m,) their errors, K = L L' + N the covariance of past tasks, L (d, k) their leading
principal components by the standard deviation of each and N the diagonal matrix of what these leave
over, sigma^2 the median of N's entries. A world can be brought to the new task in two ways.

*Aligned*: another level and spread, a task of the same shape,

    w_t = e_t + a_t + c_t e_t,   a ~ N(0, 0.1^2),   c ~ N(0, 0.3^2),                             (1)

by the ridge fit of y - e_t[S] on (1, e_t[S]) under noise sigma^2, whose misfit is

    q_t = |y - w_t[S]|^2 / sigma^2 + (a_t / 0.1)^2 + (c_t / 0.3)^2.                              (2)

*Conditioned*: Matheron's rule with past tasks as draws of the prior; what was measured holds,

    w_t = e_t + (y - e_t[S])' (K_SS + N_S)^-1 K_S.,                                              (3)
    q_t = (y - e_t[S])' (K_SS + N_S)^-1 (y - e_t[S]),                                            (4)

with K = L L' in Eqs. 3 and 4. Of r = y - e_t[S] and the rows L_S of L, by Woodbury's identity,

    z = L_S' (L_S L_S' + N_S)^-1 r = (I + L_S' N_S^-1 L_S)^-1 L_S' N_S^-1 r,                     (5)
    w_t = e_t + L z,   q_t = r' N_S^-1 (r - L_S z).                                              (6)

Either way worlds count by exp(-q_t / 2 T), the likelihood tempered: of n draws in d dimensions, one
would otherwise have all the weight after a few measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.pareto import span
from optuna_peppp.singular import leading

_LEVEL: Final = 0.1
_SPREAD: Final = 0.3
"""Standard deviations of a and c in Eq. 1."""

_ALIGNED: Final = 4.0
_CONDITIONED: Final = 16.0
"""Temperatures T."""

_DIGITS: Final = 9
"""Of memory by its span: tasks that agree in so many decimals have the same."""

_RANK: Final = 4
_SMALLEST: Final = 1e-5
"""Added to the entries of N."""


class Drawn(NamedTuple):
    """Worlds after some measurements.

    Attributes:
        errors: Shape (n, d), in [0, 1].
        weights: Shape (n,), sum 1.
        misfit: Shape (n,), q_t.
    """

    errors: NDArray[np.float64]
    weights: NDArray[np.float64]
    misfit: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Worlds:
    """Past tasks, and how they vary together.

    Attributes:
        errors: Shape (n, d), e_t.
        components: Shape (d, k), L.
        noise: Shape (d,), the entries of N.
        memories: Memory (d,) by its span, and which tasks (n,) need it, for each that some of them
            need; none where it is not known of all tasks.
    """

    errors: NDArray[np.float64]
    components: NDArray[np.float64]
    noise: NDArray[np.float64]
    memories: tuple[tuple[NDArray[np.float64], NDArray[np.bool_]], ...] = ()

    @classmethod
    def of(cls, errors: NDArray[np.float64], memory: NDArray[np.float64] | None = None) -> Self:
        """From n >= 1 past tasks.

        Args:
            errors: Shape (n, d), all known or completed.
            memory: Shape (n, d), in any unit; None where it is not known of all.
        """
        n, d = errors.shape
        centred = errors - errors.mean(axis=0)
        k = max(min(_RANK, n - 2, d - 1), 0)
        components = np.zeros((d, 0))
        if k:
            _, values, right = leading(centred, k)
            components = right * values / np.sqrt(n)
            centred = centred - centred @ right @ right.T
        noise = np.square(centred).sum(axis=0) / max(n - k, 1) + _SMALLEST
        memories = []
        if memory is not None:
            scaled = np.array([row / span(row) for row in memory]).round(_DIGITS)
            rows, inverse = np.unique(scaled, axis=0, return_inverse=True)
            memories = [(row, inverse.ravel() == index) for index, row in enumerate(rows)]
        return cls(errors, components, noise, tuple(memories))

    def aligned(self, indices: NDArray[np.intp], errors: NDArray[np.float64]) -> Drawn:
        """Brought to the new task's level and spread (Eqs. 1 and 2).

        Args:
            indices: Shape (m,), S, each configuration once.
            errors: Shape (m,), y.
        """
        x = self.errors[:, indices]
        residual = errors - x
        variance = float(np.median(self.noise))
        # Normal equations of the ridge fit, two unknowns a world.
        aa = len(indices) / variance + 1 / _LEVEL**2
        ac = x.sum(axis=1) / variance
        cc = np.square(x).sum(axis=1) / variance + 1 / _SPREAD**2
        ra, rc = residual.sum(axis=1) / variance, (residual * x).sum(axis=1) / variance
        determinant = aa * cc - ac**2
        a, c = (cc * ra - ac * rc) / determinant, (aa * rc - ac * ra) / determinant
        rest = residual - a[:, None] - c[:, None] * x
        misfit = np.square(rest).sum(axis=1) / variance + (a / _LEVEL) ** 2 + (c / _SPREAD) ** 2
        return _drawn(self.errors + a[:, None] + c[:, None] * self.errors, misfit, _ALIGNED)

    def conditioned(self, indices: NDArray[np.intp], errors: NDArray[np.float64]) -> Drawn:
        """By Matheron's rule (Eqs. 3 and 4); arguments as of :meth:`aligned`."""
        loadings = self.components[indices]
        innovation = errors - self.errors[:, indices]
        scaled = innovation / self.noise[indices]
        inner = np.eye(loadings.shape[1]) + (loadings.T / self.noise[indices]) @ loadings
        latent = np.linalg.solve(inner, loadings.T @ scaled.T).T  # Eq. 5
        misfit = np.einsum("nm,nm->n", scaled, innovation - latent @ loadings.T)  # Eq. 6
        shifted = self.errors + latent @ self.components.T
        return _drawn(shifted, misfit, _CONDITIONED)


def known_memory(memory: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The memory of tasks where all of it is known, else None."""
    return None if np.isnan(memory).any() else memory


def _drawn(errors: NDArray[np.float64], misfit: NDArray[np.float64], temperature: float) -> Drawn:
    weights = np.exp(-0.5 * (misfit - misfit.min()) / temperature)
    return Drawn(np.clip(errors, 0.0, 1.0), weights / weights.sum(), misfit)
