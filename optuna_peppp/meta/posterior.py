"""A task's errors given its measurements: a mixture of low-rank Gaussians.

The notation is that of :mod:`optuna_peppp.meta.prior`. Component i, a model at one scale, has the
weight w_i, sum 1, and the latent z ~ N(z_i, C_i). A mixture of means m_i and covariances S_i has

    mean = sum_i w_i m_i,   covariance = sum_i w_i (S_i + (m_i - mean)(m_i - mean)').            (1)

It is applied twice: to the latents of one model's scales, of which the errors then follow linearly,
mean_j + y_j' z, and to the models. Under the logit, an error is expit(x), x ~ N(mean_j, s_j + n_j),
of signal s_j and noise n_j; its mean and variance V_j are integrals by Gauss-Hermite quadrature,

    E[f(x)] = sum_q h_q f(mean_j + sqrt(s_j + n_j) t_q),                                         (2)

and signal, noise and loadings are shrunk alike, by V_j / (s_j + n_j).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.special import expit

from optuna_peppp.arrays import blocks
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.transforms import Transform, untransformed

_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_NODE_WEIGHTS = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()

_CERTAIN: Final = 1e-4
"""Standard deviation of a measured error, at least, under the logit."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The components of a posterior that one model contributes, c of them.

    Attributes:
        model: The model.
        noise: Shape (d,), variance of a new measurement around the signal, at noise scale 1.
        weights: Shape (c,).
        scales: Shape (c, 2).
        latent: Shape (c, k), mean of the latent.
        covariance: Shape (c, k, k), its covariance.
    """

    model: FactorModel
    noise: NDArray[np.float64]
    weights: NDArray[np.float64]
    scales: NDArray[np.float64]
    latent: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def moments(self, transform: Transform) -> Moments:
        """The Gaussian of the same mean and covariance, in errors (Eqs. 1 and 2)."""
        weights = self.weights / self.weights.sum()
        centre = weights @ self.latent
        away = self.latent - centre
        covariance = np.tensordot(weights, self.covariance, axes=1) + (away.T * weights) @ away
        directions = self.model.loadings
        mean = self.model.mean + directions @ centre
        signal = np.empty(len(mean))
        for block in blocks(*directions.shape):
            rows = directions[block]
            signal[block] = np.einsum("jk,jk->j", rows @ covariance, rows)
        noise = (weights @ self.scales[:, 1] ** 2) * self.noise
        if transform == "logit":
            total = signal + noise
            nodes = expit(mean[:, None] + np.sqrt(total)[:, None] * _NODES)  # Eq. 2
            mean = nodes @ _NODE_WEIGHTS
            shrunk = np.square(nodes - mean[:, None]) @ _NODE_WEIGHTS / total
            directions = directions * np.sqrt(shrunk)[:, None]
            # Far out the errors of the nodes agree to the last digit; none is certain, though.
            signal, noise = signal * shrunk, np.maximum(noise * shrunk, _CERTAIN**2)
        return Moments(mean, signal, noise, ((directions, covariance),))


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """A task's errors given its measurements, a mixture of low-rank Gaussians.

    Attributes:
        parts: What each model contributes.
        transform: How errors enter.
    """

    parts: tuple[Part, ...]
    transform: Transform

    def moments(self) -> Moments:
        """The Gaussian of the same mean and covariance, in errors.

        Exact for the identity; under the logit, each model's scales are merged before errors are
        taken.
        """
        shares = np.array([part.weights.sum() for part in self.parts])
        each = [part.moments(self.transform) for part in self.parts]
        means = np.array([m.mean for m in each])
        mean = shares @ means  # Eq. 1, as all that follows
        away = means - mean
        spreads = [spread for m in each for spread in m.spreads]
        return Moments(
            mean=mean,
            signal=shares @ (np.array([m.signal for m in each]) + np.square(away)),
            noise=shares @ np.array([m.noise for m in each]),
            spreads=(
                *((d, share * c) for share, (d, c) in zip(shares, spreads, strict=True)),
                (away.T, np.diag(shares)),
            ),
        )

    def draws(self, count: int, seed: int) -> NDArray[np.float64]:
        """Errors that measurements of all configurations might find, noise included.

        Draws come component by component: any one is as likely as any other, their order is not
        random.

        Args:
            count: How many draws.
            seed: Fixes them.

        Returns:
            Shape (count, d), in [0, 1].
        """
        generator = np.random.default_rng(seed)
        # Every component has its share of the draws, up to rounding.
        bounds = np.cumsum(np.concatenate([part.weights for part in self.parts]))
        chosen = np.searchsorted(bounds, (np.arange(count) + 0.5) / count * bounds[-1])
        drawn = np.empty((count, len(self.parts[0].noise)))
        first = 0
        for part in self.parts:
            last = first + len(part.weights)
            own = np.flatnonzero((first <= chosen) & (chosen < last))
            component = chosen[own] - first
            standard = generator.standard_normal((len(component), part.latent.shape[1]))
            roots = np.linalg.cholesky(part.covariance)
            z = part.latent[component] + np.einsum("nkl,nl->nk", roots[component], standard)
            # Row by row where d is large: beside the draws themselves little is held.
            for block in blocks(len(own), len(part.noise)):
                scale = part.scales[component[block], 1, None]
                noise = generator.standard_normal((len(scale), len(part.noise)))
                noise *= scale * np.sqrt(part.noise)
                x = part.model.mean + z[block] @ part.model.loadings.T + noise
                drawn[own[block]] = np.clip(untransformed(x, self.transform), 0.0, 1.0)
            first = last
        return drawn


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean and covariance of a task's errors.

    Attributes:
        mean: Shape (d,), not clipped.
        signal: Shape (d,), variances of the signal, the errors without noise.
        noise: Shape (d,), variance of a measurement around the signal.
        spreads: Pairs (D_i, C_i) of shapes (d, p) and (p, p); the sum of D_i C_i D_i' is the
            covariance of the signal.
    """

    mean: NDArray[np.float64]
    signal: NDArray[np.float64]
    noise: NDArray[np.float64]
    spreads: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]

    @property
    def directions(self) -> NDArray[np.float64]:
        """Shape (d, q), D: all D_i side by side."""
        return np.column_stack([directions for directions, _ in self.spreads])

    @property
    def latent(self) -> NDArray[np.float64]:
        """Shape (q, q), C: all C_i along the diagonal, so that D C D' is their sum."""
        return np.asarray(block_diag(*(latent for _, latent in self.spreads)))

    @property
    def std(self) -> NDArray[np.float64]:
        """Shape (d,), standard deviation of a measurement."""
        return np.sqrt(self.signal + self.noise)
