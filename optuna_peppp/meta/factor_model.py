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


def explain(
    precision: NDArray[np.float64],
    projected: NDArray[np.float64],
    squares: NDArray[np.float64],
    log_noise: NDArray[np.float64],
    counts: NDArray[np.intp],
    scales: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
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

    Returns:
        Mean (n, g, k) and covariance (n, g, k, k) of the latents, and the logarithm of the
        likelihood (n, g) of the residuals.
    """
    values, vectors = np.linalg.eigh(precision)
    values = np.maximum(values, 0.0)
    # In the eigenvectors' coordinates all scales share one decomposition of Y' N^-1 Y.
    rotated = projected[:, None] @ vectors
    prior, noise = np.square(scales).T
    inverse = 1 / (1 / prior[:, None] + values[:, None] / noise[:, None])  # Eq. 3, (n, g, k)
    mean = inverse * rotated / noise[:, None]  # Eq. 4
    log_likelihood = -0.5 * (  # Eq. 5
        counts[:, None] * np.log(2 * np.pi * noise)
        + log_noise[:, None]
        + squares[:, None] / noise
        - (rotated * mean).sum(axis=2) / noise
        - np.log(inverse / prior[:, None]).sum(axis=2)
    )
    back = np.swapaxes(vectors, 1, 2)
    covariance = (vectors[:, None] * inverse[:, :, None]) @ back[:, None]
    return mean @ back, covariance, log_likelihood
