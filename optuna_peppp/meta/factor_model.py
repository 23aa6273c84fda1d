"""Factor models of a task's errors, and their exact conditioning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.arrays import freeze


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
            freeze(self, name, shape)
        if not (self.noise > 0).all():
            raise ValueError(f"noise must be positive; got {self.noise.min()}")

    @property
    def rank(self) -> int:
        """The number k of latent dimensions."""
        return int(self.loadings.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """The latents of n tasks given what was measured of each, at g scales.

    All scales share the eigenvectors of a task's Y' N^-1 Y: in their coordinates covariances are
    diagonal.

    Attributes:
        vectors: Shape (n, k, k), the eigenvectors as columns.
        mean: Shape (n, g, k), of the latent, in these coordinates.
        variance: Shape (n, g, k), of the latent, in these coordinates.
        log_likelihood: Shape (n, g), of what was measured.
    """

    vectors: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    log_likelihood: NDArray[np.float64]

    @property
    def latent(self) -> NDArray[np.float64]:
        """Shape (n, g, k), mean of the latents."""
        return self.mean @ np.swapaxes(self.vectors, 1, 2)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Shape (n, g, k, k), covariance of the latents."""
        back = np.swapaxes(self.vectors, 1, 2)[:, None]
        return (self.vectors[:, None] * self.variance[:, :, None]) @ back

    def moments(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """E[z] (n, k) and E[z z'] (n, k, k), summed over scales with weights (n, g)."""
        weighted = weights[:, :, None] * self.mean
        back = np.swapaxes(self.vectors, 1, 2)
        seconds = np.swapaxes(weighted, 1, 2) @ self.mean
        diagonal = np.arange(seconds.shape[1])
        seconds[:, diagonal, diagonal] += (weights[:, None] @ self.variance)[:, 0]
        firsts = weights[:, None] @ self.mean @ back
        return firsts[:, 0], self.vectors @ seconds @ back


def explain(
    precision: NDArray[np.float64],
    projected: NDArray[np.float64],
    squares: NDArray[np.float64],
    log_noise: NDArray[np.float64],
    counts: NDArray[np.intp],
    scales: NDArray[np.float64],
) -> Explained:
    """Conditions the latents of n tasks on what was measured of each, at every scale.

    With Y, r and N the loadings of a task's m measurements, their residuals from the mean, and
    the diagonal matrix of their noise variances at noise scale 1, at the scales (a, b)

        C = (I / a^2 + Y' N^-1 Y / b^2)^-1                                     covariance of z,  (3)
        z = C Y' N^-1 r / b^2                                                  mean of z,        (4)
        -2 log p(r) = m log(2 pi b^2) + log det N + r' N^-1 r / b^2
                      - r' N^-1 Y z / b^2 - log det(C / a^2),                                    (5)

    the last by the matrix inversion and determinant lemmas for a^2 Y Y' + b^2 N.

    Args:
        precision: Shape (n, k, k), Y' N^-1 Y.
        projected: Shape (n, k), Y' N^-1 r.
        squares: Shape (n,), r' N^-1 r.
        log_noise: Shape (n,), log det N.
        counts: Shape (n,), number of measurements.
        scales: Shape (g, 2).
    """
    values, vectors = np.linalg.eigh(precision)
    values = np.maximum(values, 0.0)
    rotated = projected[:, None] @ vectors
    prior, noise = np.square(scales).T
    variance = 1 / (1 / prior[:, None] + values[:, None] / noise[:, None])  # Eq. 3, (n, g, k)
    mean = variance * rotated / noise[:, None]  # Eq. 4
    log_likelihood = -0.5 * (  # Eq. 5
        counts[:, None] * np.log(2 * np.pi * noise)
        + log_noise[:, None]
        + squares[:, None] / noise
        - (mean @ np.swapaxes(rotated, 1, 2))[:, :, 0] / noise
        - np.log(variance / prior[:, None]) @ np.ones(variance.shape[2])
    )
    return Explained(vectors, mean, variance, log_likelihood)
