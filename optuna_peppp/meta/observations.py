"""What was measured of past tasks, on the scale of the model, and what explains it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.meta.factor_model import explain
from optuna_peppp.meta.transforms import Transform, binomial_variance, transformed

_LATENT: Final = 2.0 ** np.arange(-1, 4)
_NOISE: Final = 2.0 ** np.array([-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4])
SCALES: Final = np.array(list(product(_LATENT, _NOISE)))
"""Shape (g, 2), of the latent and of the noise: a task may lie eight times as far out as past ones
do, be four times as clean, or as noisy as if the past ones said nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Tasks:
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
    ) -> Tasks:
        """From errors (n, d), NaN where unobserved, and how many images (n,) each counts."""
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
        self,
        rows: NDArray[np.float64],
        spread: NDArray[np.float64],
        noise: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The latents of all tasks, and the likelihoods, as :func:`prior.explain` has them.

        Of rows (d, k + 1) with covariance (d, k + 1, k + 1), the log likelihood is expected.
        """
        (d, k), n = rows[:, 1:].shape, len(self.values)
        weights = self.precision(noise)
        residual = self.values - rows[:, 0]
        # Eq. 2 of factor_analysis, summed over the configurations of each task.
        products = rows[:, 1:, None] * rows[:, None, 1:] + spread[:, 1:, 1:]
        return explain(
            (weights @ products.reshape(d, k * k)).reshape(n, k, k),
            (weights * residual) @ rows[:, 1:] - weights @ spread[:, 1:, 0],
            np.einsum("nd,nd->n", weights, np.square(residual) + spread[:, 0, 0]),
            np.einsum("nd,nd->n", self.observed, np.log(noise + self.binomial)),
            np.count_nonzero(self.observed, axis=1),
            SCALES,
        )

    def row(self, row: int) -> Tasks:
        """One of the tasks alone."""
        alone = slice(row, row + 1)
        return Tasks(self.values[alone], self.observed[alone], self.binomial[alone])
