"""What a few measurements tell about all errors of a task: exact conditioning of a low-rank prior.

Notation: a task has errors e (d,), transformed to x = e or x = logit(e). In a factor model

    x_j = mean_j + y_j' z + noise_j,   z ~ N(0, a^2 I),   noise_j ~ N(0, b^2 (v_j + c_j)),

with loadings Y (d, k) of rows y_j, the latent z (k,) of the task, noise variances v (d,) and, where
the number of test images is known, the variance c (d,) of counting errors on so few of them. The
scales (a, b) tell how far a task lies from the usual, and how noisy it is. The prior is a mixture
of a few such models, each at every scale of a grid: a mixture of Gaussians with heavy tails,
which a few surprising measurements override. So is the posterior. Everything is k-dimensional
algebra: no (d, d) matrix is formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag
from scipy.special import expit

from optuna_peppp.transforms import Transform, binomial_variance, transformed, untransformed

_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_NODE_WEIGHTS = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()

_NEGLIGIBLE: Final = 1e-4
"""Components of a posterior with a smaller weight, relative to the largest, are left out."""

_CERTAIN: Final = 1e-4
"""Standard deviation of a measured error, at least, under the logit."""


@dataclass(frozen=True, slots=True, eq=False)
class FactorModel:
    """How the errors of a task vary together, at scales of 1.

    Attributes:
        mean: Shape (d,), in the units of the transform, as are the others.
        loadings: Shape (d, k), Y.
        noise: Shape (d,), variance of what the latent leaves unexplained; positive.
    """

    mean: NDArray[np.float64]
    loadings: NDArray[np.float64]
    noise: NDArray[np.float64]

    def __post_init__(self) -> None:
        d, k = np.shape(self.loadings)
        for name, shape in (("mean", (d,)), ("loadings", (d, k)), ("noise", (d,))):
            _freeze(self, name, shape)
        if not (self.noise > 0).all():
            raise ValueError(f"noise must be positive; got {self.noise.min()}")


@dataclass(frozen=True, slots=True, eq=False)
class TaskPrior:
    """What past tasks tell of the errors of a new one.

    Attributes:
        models: Factor models of the same d configurations, r of them.
        scales: Shape (g, 2), of the latent and of the noise, standard deviations; positive.
        weights: Shape (r, g), of every model at every scale; positive, sum 1.
        transform: How errors enter.
    """

    models: tuple[FactorModel, ...]
    scales: NDArray[np.float64]
    weights: NDArray[np.float64]
    transform: Transform = "identity"

    def __post_init__(self) -> None:
        if self.transform not in get_args(Transform):
            raise ValueError(
                f"transform must be one of {get_args(Transform)}; got {self.transform!r}"
            )
        g = len(self.scales)
        _freeze(self, "scales", (g, 2))
        _freeze(self, "weights", (len(self.models), g))
        if not ((self.scales > 0).all() and (self.weights > 0).all()):
            raise ValueError("scales and weights must be positive")

    def restricted(self, indices: NDArray[np.intp]) -> TaskPrior:
        """The prior of some of the configurations, in the order of ``indices``."""
        return TaskPrior(
            tuple(
                FactorModel(model.mean[indices], model.loadings[indices], model.noise[indices])
                for model in self.models
            ),
            self.scales,
            self.weights,
            self.transform,
        )

    def condition(
        self, indices: ArrayLike, errors: ArrayLike, *, test_images: int | None = None
    ) -> Posterior:
        """The posterior after measurements of a new task.

        Args:
            indices: Shape (m,), the measured configurations. Repeats are averaged and count as
                one measurement: what the latent does not explain is mostly the configuration's
                own and does not average out.
            errors: Shape (m,), their errors in [0, 1].
            test_images: How many images an error is counted on, where known.
        """
        d = len(self.models[0].mean)
        given = np.asarray(indices, dtype=np.intp)
        counts = np.bincount(given, minlength=d)
        where = np.flatnonzero(counts)
        sums = np.bincount(given, weights=np.asarray(errors, dtype=np.float64), minlength=d)
        measured = sums[where] / counts[where]
        values = transformed(measured, self.transform)
        binomial = binomial_variance(measured, test_images, self.transform)
        # All models at once, the loadings of lower rank filled up with zeros.
        ranks = [model.loadings.shape[1] for model in self.models]
        y = np.zeros((len(ranks), len(where), max(ranks)))
        for i, (model, k) in enumerate(zip(self.models, ranks, strict=True)):
            y[i, :, :k] = model.loadings[where]
        residual = values - np.array([model.mean[where] for model in self.models])
        noise = binomial + np.array([model.noise[where] for model in self.models])
        weighted = y / noise[..., None]
        latent, covariance, likelihood = explain(
            np.swapaxes(weighted, 1, 2) @ y,
            np.einsum("rmk,rm->rk", weighted, residual),
            (residual**2 / noise).sum(axis=1),
            np.log(noise).sum(axis=1),
            np.full(len(ranks), len(where)),
            self.scales,
        )
        joint = likelihood + np.log(self.weights)
        shares = np.exp(joint - joint.max())
        kept = shares > _NEGLIGIBLE
        shares /= shares[kept].sum()
        return Posterior(
            tuple(
                _Part(
                    model=model,
                    noise=self._noise(model, test_images),
                    weights=shares[i, kept[i]],
                    scales=self.scales[kept[i]],
                    latent=latent[i, kept[i], :k],
                    covariance=covariance[i, kept[i], :k, :k],
                )
                for i, (model, k) in enumerate(zip(self.models, ranks, strict=True))
                if kept[i].any()
            ),
            self.transform,
        )

    def _noise(self, model: FactorModel, test_images: int | None) -> NDArray[np.float64]:
        """Shape (d,), variance of a new measurement around a model's signal."""
        if test_images is None:
            return model.noise
        expected = np.clip(untransformed(model.mean, self.transform), 0.0, 1.0)
        return model.noise + binomial_variance(expected, test_images, self.transform)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
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
        """The Gaussian of the same mean and covariance, in errors."""
        weights = self.weights / self.weights.sum()
        centre = weights @ self.latent
        away = self.latent - centre
        covariance = np.tensordot(weights, self.covariance, axes=1) + (away.T * weights) @ away
        directions = self.model.loadings
        mean = self.model.mean + directions @ centre
        signal = np.einsum("jk,jk->j", directions @ covariance, directions)
        noise = (weights @ self.scales[:, 1] ** 2) * self.noise
        if transform == "logit":
            total = signal + noise
            nodes = expit(mean[:, None] + np.sqrt(total)[:, None] * _NODES)
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

    parts: tuple[_Part, ...]
    transform: Transform

    def moments(self) -> Moments:
        """The Gaussian of the same mean and covariance, in errors.

        Exact for the identity; under the logit, each model's scales are merged before errors are
        taken.
        """
        shares = np.array([part.weights.sum() for part in self.parts])
        each = [part.moments(self.transform) for part in self.parts]
        means = np.array([m.mean for m in each])
        mean = shares @ means
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
            here = (first <= chosen) & (chosen < last)
            component = chosen[here] - first
            standard = generator.standard_normal((len(component), part.latent.shape[1]))
            roots = np.linalg.cholesky(part.covariance)
            z = part.latent[component] + np.einsum("nkl,nl->nk", roots[component], standard)
            noise = generator.standard_normal((len(component), len(part.noise)))
            noise *= part.scales[component, 1, None] * np.sqrt(part.noise)
            drawn[here] = part.model.mean + z @ part.model.loadings.T + noise
            first = last
        return np.clip(untransformed(drawn, self.transform), 0.0, 1.0)


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


def explain(
    precision: NDArray[np.float64],
    projected: NDArray[np.float64],
    squares: NDArray[np.float64],
    log_noise: NDArray[np.float64],
    counts: NDArray[np.intp],
    scales: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Conditions the latents of n tasks on what was measured of each, at every scale.

    With Y, r and N the loadings of a task's measurements, their residuals from the mean, and
    their noise variances at noise scale 1:

    Args:
        precision: Shape (n, k, k), Y' N^-1 Y.
        projected: Shape (n, k), Y' N^-1 r.
        squares: Shape (n,), r' N^-1 r.
        log_noise: Shape (n,), log det N.
        counts: Shape (n,), number of measurements.
        scales: Shape (g, 2).

    Returns:
        Mean (n, g, k) and covariance (n, g, k, k) of the latents, and the logarithm of the
        likelihood (n, g) of the residuals.
    """
    values, vectors = np.linalg.eigh(precision)
    values = np.maximum(values, 0.0)
    # In the eigenvectors' coordinates all scales share one decomposition.
    rotated = projected[:, None] @ vectors
    prior, noise = np.square(scales).T
    inverse = 1 / (1 / prior[:, None] + values[:, None] / noise[:, None])  # (n, g, k)
    mean = inverse * rotated / noise[:, None]
    log_likelihood = -0.5 * (
        counts[:, None] * np.log(2 * np.pi * noise)
        + log_noise[:, None]
        + squares[:, None] / noise
        - (rotated * mean).sum(axis=2) / noise
        - np.log(inverse / prior[:, None]).sum(axis=2)
    )
    back = np.swapaxes(vectors, 1, 2)
    covariance = (vectors[:, None] * inverse[:, :, None]) @ back[:, None]
    return mean @ back, covariance, log_likelihood


def _freeze(record: object, name: str, shape: tuple[int, ...]) -> None:
    """Replaces an attribute by a read-only copy, checked."""
    array = np.array(getattr(record, name), dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite with shape {shape}; got {array.shape}")
    array.flags.writeable = False
    object.__setattr__(record, name, array)
