"""BoTorch, told memory: a Gaussian process of the error beside a deterministic model of memory.

Configurations are those of qLogNEHVI's largest value among all that were not measured. Cold, or
with what ten past tasks tell: a ranking-weighted ensemble of their Gaussian processes (RGPE; Feurer
et al., "Practical transfer learning for Bayesian optimization", 2018), in which model i counts

    w_i = share of draws in which its ranking loss is the lowest,                                (1)
    loss = sum over j, k of [(f_j < f_k) xor (y_j < y_k)],                                       (2)

f drawn from it at the measured configurations, of the new task's own model with j left out and y_k
in place of f_k. Who in the median loses more than the own model in 95% of its draws is left out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import MixedSingleTaskGP, SingleTaskGP
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.model import Model, ModelList
from botorch.posteriors import GPyTorchPosterior
from botorch.sampling.get_sampler import get_sampler
from gpytorch import ExactMarginalLogLikelihood
from gpytorch.distributions import MultivariateNormal

from benchmarks.samplers.tasks import Choose, NewTask
from optuna_peppp.pareto import REFERENCE

FIRST: Final = 3
"""Measurements from which on a new task has a Gaussian process of its own; random ones, if cold."""

PAST: Final = 10
"""Past tasks in the ensemble."""

DRAWS: Final = 256
SAMPLES: Final = 64


def cold(task: NewTask, seed: int) -> Choose:
    """Without past tasks."""
    return _Chooser(task, seed, [])


def ensemble(task: NewTask, seed: int) -> Choose:
    """With past tasks, drawn at random where there are more."""
    errors, _ = task.complete
    some = np.random.default_rng(seed).permutation(len(errors))[:PAST]
    return _Chooser(task, seed, [-errors[row] for row in some])


class _Chooser:
    """Everything is maximized: the less of an error or of memory, the better."""

    def __init__(self, task: NewTask, seed: int, past: list[np.ndarray[Any, Any]]) -> None:
        torch.set_num_threads(1)
        self._named, self._generator = task.named, np.random.default_rng(seed)
        self._points = torch.from_numpy(task.features)
        low, high = np.log(task.memory.min()), np.log(task.memory.max())
        self._bounds, self._seed = (low, high), seed
        self._levels = [(float(y.mean()), float(y.std())) for y in past]
        self._past = [
            self._fitted(self._points, torch.from_numpy((y - mean) / std))
            for y, (mean, std) in zip(past, self._levels, strict=True)
        ]

    def __call__(self, indices: list[int], errors: list[float]) -> int:
        remaining = np.setdiff1d(np.arange(len(self._points)), indices)
        if not self._past and len(indices) < FIRST:
            return int(self._generator.choice(remaining))
        torch.manual_seed(self._seed + len(indices))
        measured = self._points[indices]
        own = self._model(measured, -torch.tensor(errors, dtype=torch.float64))
        model = ModelList(own, self._memory())
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model,
            [-REFERENCE[1], -REFERENCE[0]],
            measured,
            get_sampler(model.posterior(self._points[:1]), torch.Size([SAMPLES]), seed=self._seed),
            prune_baseline=False,
            cache_root=False,
        )
        with torch.no_grad():
            worth = acquisition(self._points[remaining].unsqueeze(1))
        return int(remaining[int(worth.argmax())])

    def _memory(self) -> Model:
        """The known one, scaled to [0, 1], from its feature."""
        low, high = self._bounds
        smallest, largest = np.exp(low), np.exp(high)
        return GenericDeterministicModel(
            lambda x: (
                -(torch.exp(low + (high - low) * x[..., -1:]) - smallest) / (largest - smallest)
            )
        )

    def _fitted(self, x: torch.Tensor, y: torch.Tensor) -> SingleTaskGP:
        if self._named:
            model = MixedSingleTaskGP(x, y[:, None], cat_dims=[0], outcome_transform=None)
        else:
            model = SingleTaskGP(x, y[:, None], outcome_transform=None)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return model

    def _model(self, x: torch.Tensor, y: torch.Tensor) -> Model:
        """Of the error that is to come."""
        if len(y) < FIRST:
            mean, std = np.mean(self._levels, axis=0)
            return Ensemble(
                self._past, torch.full((len(self._past),), 1 / len(self._past)), mean, std
            )
        mean, std = y.mean(), y.std().clamp_min(1e-6)
        y = (y - mean) / std
        own = self._fitted(x, y)
        if not self._past:
            return Ensemble([own], torch.ones(1), mean, std)
        with torch.no_grad():
            drawn = [m.posterior(x).rsample(torch.Size([DRAWS])).squeeze(-1) for m in self._past]
            of_past = [_losses(draws, draws[:, None], y) for draws in drawn]
            mean_of_own, variance = left_out(own, y)
            draws = torch.randn(DRAWS, len(y), dtype=y.dtype) * variance.sqrt() + mean_of_own
            losses = torch.stack([*of_past, _losses(draws, y, y)])
        diluting = losses.median(dim=1).values > losses[-1].quantile(0.95)
        losses[diluting] = torch.inf
        best = losses == losses.min(dim=0).values
        return Ensemble([*self._past, own], (best / best.sum(dim=0)).mean(dim=1), mean, std)


def _losses(drawn: torch.Tensor, beside: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Shape (draws,), Eq. 2 with f_k in ``beside``."""
    wrong = (drawn[:, :, None] < beside) ^ (y[:, None] < y)
    losses: torch.Tensor = wrong.sum(dim=(1, 2)).double()
    return losses


def left_out(model: SingleTaskGP, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance, shape (m,), of every measurement given the others (closed form)."""
    prior = model.likelihood(model.forward(*model.train_inputs))
    precision = torch.linalg.inv(prior.covariance_matrix)
    variance = 1 / precision.diagonal()
    return y - (precision @ (y - prior.mean)) * variance, variance


class Ensemble(Model):
    """Gaussian processes of standardized errors, weighted, in the units of the new task."""

    num_outputs = 1
    batch_shape = torch.Size()

    def __init__(
        self, models: list[SingleTaskGP], weights: torch.Tensor, mean: Any, std: Any
    ) -> None:
        super().__init__()
        self._models = [(m, float(w)) for m, w in zip(models, weights, strict=True) if w > 0]
        self._mean, self._std = float(mean), float(std)

    def posterior(
        self,
        X: torch.Tensor,  # noqa: N803, the name that BoTorch passes
        *args: object,
        **kwargs: object,
    ) -> GPyTorchPosterior:
        """At points, shape (..., q, k)."""
        parts = [(model.posterior(X).distribution, weight) for model, weight in self._models]
        mean = sum(weight * part.mean for part, weight in parts)
        covariance = sum(weight**2 * part.covariance_matrix for part, weight in parts)
        return GPyTorchPosterior(
            MultivariateNormal(self._mean + self._std * mean, self._std**2 * covariance)
        )
