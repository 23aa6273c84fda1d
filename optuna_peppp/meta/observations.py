"""What was measured of past tasks, on the scale of the model, and what explains it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.meta.factor_model import Explained, explain
from optuna_peppp.meta.transforms import Transform, binomial_variance, transformed

_LATENT: Final = 2.0 ** np.arange(-1, 4)
_NOISE: Final = 2.0 ** np.array([-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4])
SCALES: Final = np.array(list(product(_LATENT, _NOISE)))
"""Shape (g, 2), of the latent and of the noise: a task may lie eight times as far out as past ones
do, be four times as clean, or as noisy as if the past ones said nothing."""

Shares = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""The zeroth, first and second powers of what was measured, weighted; each of shape (n, d)."""


@dataclass(frozen=True, slots=True, eq=False)
class Tasks:
    """What was measured, transformed.

    Attributes:
        observed: Shape (n, d), 1 where observed, else 0.
        values: Shape (n, d), 0 where unobserved.
        squares: Shape (n, d), those of the values.
        binomial: Shape (n, d), variance from counting on few images; None where their number is
            not known.
    """

    observed: NDArray[np.float64]
    values: NDArray[np.float64]
    squares: NDArray[np.float64]
    binomial: NDArray[np.float64] | None

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
        values = np.where(unobserved, 0.0, transformed(filled, transform))
        binomial = (
            None
            if test_images is None
            else binomial_variance(filled, test_images[:, None], transform)
        )
        return cls(1.0 - unobserved, values, np.square(values), binomial)

    def part(self, row: int, columns: NDArray[np.intp]) -> Tasks:
        """One of the tasks alone, and some of the configurations."""
        binomial = None if self.binomial is None else self.binomial[None, row, columns]
        return Tasks(
            self.observed[None, row, columns],
            self.values[None, row, columns],
            self.squares[None, row, columns],
            binomial,
        )

    def shares(self, noise: NDArray[np.float64], power: int = 1) -> Shares:
        """Observations, values and squares (n, d), weighted by a power of f = v / (v + c).

        That is the share of a residual's variance which is not from counting images: 1, so that
        nothing is computed, where nothing is known of them.
        """
        if self.binomial is None:
            return self.observed, self.values, self.squares
        weights = (noise / (noise + self.binomial)) ** power
        return weights * self.observed, weights * self.values, weights * self.squares

    def counting(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (d,), the sum over tasks of f c, which counting images adds to what is not."""
        if self.binomial is None:
            return np.zeros(len(noise))
        added: NDArray[np.float64] = np.einsum("nd,nd->d", self.shares(noise)[0], self.binomial)
        return added

    def explained(
        self,
        rows: NDArray[np.float64],
        spread: NDArray[np.float64],
        noise: NDArray[np.float64],
    ) -> Explained:
        """The latents of all tasks, and the likelihoods.

        Of rows (d, k + 1) with covariance (d, k + 1, k + 1), the log likelihood is expected.
        """
        (d, k), n = rows[:, 1:].shape, len(self.values)
        mean, loadings = rows[:, 0], rows[:, 1:]
        # Eq. 2 of factor_analysis, summed over the configurations of each task: with f o / v for
        # the precision of a measurement, three products with all powers of the values.
        products = loadings[:, :, None] * loadings[:, None] + spread[:, 1:, 1:]
        crossed = mean[:, None] * loadings + spread[:, 1:, 0]
        constant = np.column_stack((products.reshape(d, k * k), crossed, mean**2 + spread[:, 0, 0]))
        linear = np.column_stack((loadings, -2 * mean))
        zeroth, first, second = self.shares(noise)
        sums = zeroth @ (constant / noise[:, None])
        sums_of_values = first @ (linear / noise[:, None])
        return explain(
            sums[:, : k * k].reshape(n, k, k),
            sums_of_values[:, :k] - sums[:, k * k : -1],
            second @ (1 / noise) + sums_of_values[:, k] + sums[:, -1],
            self._log_noise(noise),
            np.count_nonzero(self.observed, axis=1),
            SCALES,
        )

    def _log_noise(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (n,), the sum of log (v + c) over what was observed."""
        if self.binomial is None:
            return np.asarray(self.observed @ np.log(noise))
        summed: NDArray[np.float64] = np.einsum(
            "nd,nd->n", self.observed, np.log(noise + self.binomial)
        )
        return summed
