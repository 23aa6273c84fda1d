"""The prior of a task's errors, and its exact conditioning on what was measured.

Notation: a task has errors e (d,), transformed to x = e or x = logit(e). In a factor model

    x_j = mean_j + y_j' z + noise_j,   z ~ N(0, a^2 I),   noise_j ~ N(0, b^2 (v_j + c_j)),       (1)

with loadings Y (d, k) of rows y_j, the latent z (k,) of the task, noise variances v (d,) and, where
the number of test images is known, the variance c (d,) of counting errors on so few of them. The
scales (a, b) tell how far a task lies from the usual, and how noisy it is. The prior is a mixture
of a few such models, each at every scale of a grid: a mixture of Gaussians with heavy tails,
which a few surprising measurements override. So is the posterior, whose weights are

    w(model, scales) p(measurements | model, scales) / normalization,                            (2)

with the likelihoods of Eq. 5 in :func:`explain`. Everything is k-dimensional algebra: no (d, d)
matrix is formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.arrays import freeze
from optuna_peppp.corpora.measurements import averaged
from optuna_peppp.meta.factor_model import FactorModel, explain
from optuna_peppp.meta.posterior import Part, Posterior
from optuna_peppp.meta.transforms import Transform, binomial_variance, transformed, untransformed

_NEGLIGIBLE: Final = 1e-4
"""Components of a posterior with a smaller weight, relative to the largest, are left out."""


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
        freeze(self, "scales", (g, 2))
        freeze(self, "weights", (len(self.models), g))
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
        repeated = averaged(indices, errors, len(self.models[0].mean))
        measured = np.flatnonzero(~np.isnan(repeated))
        x = transformed(repeated[measured], self.transform)
        binomial = binomial_variance(repeated[measured], test_images, self.transform)
        # All models at once, the loadings of lower rank filled up with zeros.
        ranks = [model.rank for model in self.models]
        y = np.zeros((len(ranks), len(measured), max(ranks)))
        for i, (model, k) in enumerate(zip(self.models, ranks, strict=True)):
            y[i, :, :k] = model.loadings[measured]
        residual = x - np.array([model.mean[measured] for model in self.models])
        noise = binomial + np.array([model.noise[measured] for model in self.models])
        weighted = y / noise[..., None]
        found = explain(
            np.swapaxes(weighted, 1, 2) @ y,
            np.einsum("rmk,rm->rk", weighted, residual),
            (residual**2 / noise).sum(axis=1),
            np.log(noise).sum(axis=1),
            np.full(len(ranks), len(measured)),
            self.scales,
        )
        latent, covariance = found.latent, found.covariance
        joint = found.log_likelihood + np.log(self.weights)  # Eq. 2
        shares = np.exp(joint - joint.max())
        counting = shares > _NEGLIGIBLE
        shares /= shares[counting].sum()
        return Posterior(
            tuple(
                Part(
                    model=model,
                    noise=self._noise(model, test_images),
                    weights=shares[i, counting[i]],
                    scales=self.scales[counting[i]],
                    latent=latent[i, counting[i], :k],
                    covariance=covariance[i, counting[i], :k, :k],
                )
                for i, (model, k) in enumerate(zip(self.models, ranks, strict=True))
                if counting[i].any()
            ),
            self.transform,
        )

    def completed(
        self, errors: NDArray[np.float64], test_images: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Errors of tasks, and where one was measured in part, what to expect of the rest.

        Args:
            errors: Shape (n, d), in [0, 1], NaN where it was not measured.
            test_images: Shape (n,), how many images a task's errors are counted on, where known.

        Returns:
            The errors (n, d), in [0, 1], and the mean over tasks of the variance (d,) of what was
            expected; what was measured has none.
        """
        completed, variance = errors.copy(), np.zeros(errors.shape[1])
        unknown = np.isnan(errors)
        for row in np.flatnonzero(unknown.any(axis=1)).tolist():
            known = np.flatnonzero(~unknown[row])
            images = None if test_images is None else int(test_images[row])
            moments = self.condition(known, errors[row, known], test_images=images).moments()
            completed[row, unknown[row]] = moments.mean[unknown[row]].clip(0.0, 1.0)
            variance += np.where(unknown[row], moments.std**2, 0.0) / len(errors)
        return completed, variance

    def _noise(self, model: FactorModel, test_images: int | None) -> NDArray[np.float64]:
        """Shape (d,), variance of a new measurement around a model's signal."""
        if test_images is None:
            return model.noise
        expected = np.clip(untransformed(model.mean, self.transform), 0.0, 1.0)
        return model.noise + binomial_variance(expected, test_images, self.transform)
