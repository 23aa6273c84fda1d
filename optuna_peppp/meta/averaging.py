"""Learning the prior of a new task's errors from past tasks, measured completely or in part.

Tasks that are left out, one at a time, up to a hundred, judge what is learned from the others:

- factor models of rank 2 to 5 are averaged, each at every scale, with the weights that make the
  left-out tasks most likely;
- the transform and the noise model are those whose predictions from few measurements are closest
  to the truth, by the continuous ranked probability score. (Log likelihood would be decided by
  errors close to 1, where the logit is precise and no decision depends on it.)

Notation: l_tc is the log likelihood of task t, left out, under component c, a model at one scale;
p_c are the weights before any task was seen. The weights w_c maximize

    sum_t log sum_c w_c exp l_tc + sum_c p_c log w_c                                             (1)

by EM, and a Gaussian prediction (mean, s) of a value x, with z = (x - mean) / s, scores

    s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))                                               (2)

(Gneiting and Raftery, 2007), lower being better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, ndtr

from optuna_peppp.meta.factor_analysis import EXPECTED, NoiseModel, State
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.observations import SCALES, Tasks
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.transforms import Transform

_RANKS: Final = (2, 3, 4, 5)

_MEASURED: Final = (1, 3, 9)
"""Numbers of measurements from which a left-out task is predicted."""

_LEFT_OUT: Final = 100
"""Tasks that are left out at most, drawn at random: so many tell what scales and transforms do."""

_ITERATIONS: Final = 60
_STILL: Final = 1e-4
"""Relative growth of the likelihood at which EM stops."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of past tasks, and how well it predicts a task that is left out.

    Attributes:
        transform: How errors enter.
        noise: How noise differs between configurations.
        score: Continuous ranked probability score of an error, mean over left-out tasks and
            after 1, 3 and 9 measurements drawn at random; the lower, the better.
    """

    transform: Transform
    noise: NoiseModel
    score: float

    def __str__(self) -> str:
        return f"{self.transform}, {self.noise} noise: {self.score:.5f}"


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A prior, and what it was preferred to.

    Attributes:
        prior: The prior.
        candidates: The transforms and noise models that were compared; the best first.
    """

    prior: TaskPrior
    candidates: tuple[Candidate, ...]

    @property
    def rank(self) -> int:
        """The middle one of the prior's ranks, at which candidates were compared."""
        return _middle([model.rank for model in self.prior.models])

    def __str__(self) -> str:
        shares = ", ".join(
            f"{model.rank}: {share:.0%}"
            for model, share in zip(self.prior.models, self.prior.weights.sum(axis=1), strict=True)
        )
        best, *others = map(str, self.candidates)
        return (
            f"Factor models of the tasks, by rank and weight: {shares}. Continuous ranked "
            f"probability score of left-out tasks: {best} (chosen); {'; '.join(others)}."
        )


def learn(
    errors: ArrayLike, *, rank: int | None = None, test_images: ArrayLike | None = None
) -> Learned:
    """Learns the prior of a new task's errors.

    Args:
        errors: Shape (n, d), errors of n >= 2 tasks in [0, 1], NaN where unobserved; every row
            and column is observed somewhere.
        rank: Dimensions of the latent; by default models of rank 2 to 5 are averaged, as far as
            there are tasks.
        test_images: How many images errors were counted on, of every task (n,) or of all, where
            known.
    """
    given = np.asarray(errors, dtype=np.float64)
    n, d = given.shape
    ranks = [k for k in _RANKS if k < min(n, d)] or [1] if rank is None else [rank]
    images = (
        None
        if test_images is None
        else np.broadcast_to(np.asarray(test_images, dtype=np.float64), n)
    )
    middle = _middle(ranks)
    compared = {
        (transform, noise): Fitted.to(given, images, transform, noise, middle)
        for transform, noise in product(get_args(Transform), get_args(NoiseModel))
    }
    candidates = sorted(
        (
            Candidate(*key, _mean(scores(fitted.left_out_priors(), given, images)))
            for key, fitted in compared.items()
        ),
        key=lambda candidate: candidate.score,
    )
    best = candidates[0].transform, candidates[0].noise
    models = [compared[best] if k == middle else Fitted.to(given, images, *best, k) for k in ranks]
    prior = TaskPrior(
        tuple(fitted.model for fitted in models),
        SCALES,
        _weights(np.stack([fitted.likelihood for fitted in models], axis=1)),
        best[0],
    )
    return Learned(prior, tuple(candidates))


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A factor model of all tasks, and those that did not see one of them.

    Attributes:
        transform: How errors enter.
        model: Of all n tasks.
        indices: Shape (m,), the tasks that were left out, ascending.
        left_out: Without one of the tasks, for each of these.
        likelihood: Shape (m, g), logarithm: of each of these, left out, at every scale.
    """

    transform: Transform
    model: FactorModel
    indices: NDArray[np.intp]
    left_out: tuple[FactorModel, ...]
    likelihood: NDArray[np.float64]

    @classmethod
    def to(
        cls,
        errors: NDArray[np.float64],
        test_images: NDArray[np.float64] | None,
        transform: Transform,
        noise: NoiseModel,
        rank: int,
    ) -> Self:
        """Fits a model, and those that are left out of it.

        Args:
            errors: Shape (n, d), NaN where unobserved; every row and column is observed somewhere.
            test_images: Shape (n,), how many images errors were counted on, where known.
            transform: How errors enter.
            noise: Whether configurations have noise variances of their own.
            rank: Dimensions of the latent.
        """
        tasks = Tasks.of(errors, test_images, transform)
        state = State.start(tasks, rank)
        likelihood = -np.inf
        for _ in range(_ITERATIONS):
            state, reached = state.improved(tasks, noise)
            if reached - likelihood < _STILL * abs(reached):
                break
            likelihood = reached
        indices = _sampled(len(errors))
        left_out, likelihoods = zip(*state.left_out(tasks, noise, indices), strict=True)
        return cls(transform, state.model(), indices, left_out, np.array(likelihoods))

    def prior(self) -> TaskPrior:
        """The prior of a new task that this model alone makes."""
        weights = _weights(self.likelihood[:, None])
        return TaskPrior((self.model,), SCALES, weights, self.transform)

    def left_out_priors(self) -> Iterator[tuple[int, TaskPrior]]:
        """Each task that was left out, with the prior of the model that did not see it."""
        weights = _weights(self.likelihood[:, None])
        for task, model in zip(self.indices.tolist(), self.left_out, strict=True):
            yield task, TaskPrior((model,), SCALES, weights, self.transform)


def _middle(ranks: Sequence[int]) -> int:
    """The middle one of ascending ranks."""
    return ranks[(len(ranks) - 1) // 2]


def _sampled(n: int) -> NDArray[np.intp]:
    """Which of n tasks are left out."""
    return np.sort(np.random.default_rng(0).permutation(n)[:_LEFT_OUT])


def scores(
    priors: Iterable[tuple[int, TaskPrior]],
    errors: NDArray[np.float64],
    test_images: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Continuous ranked probability scores of tasks that are left out, predicted by the others.

    Args:
        priors: Rows of ``errors``, each with the prior that did not see it.
        errors: Shape (n, d), NaN where unobserved.
        test_images: Shape (n,), where known.

    Returns:
        A row a prior, after 1, 3 and 9 measurements; NaN where a task has no more of them.
    """
    found = []
    for row, left_out in priors:
        images = None if test_images is None else int(test_images[row])
        order = np.random.default_rng(row).permutation(np.flatnonzero(~np.isnan(errors[row])))
        measured = errors[row, order]
        # Of the configurations in their random order.
        prior = left_out.restricted(order)
        own = np.full(len(_MEASURED), np.nan)
        for place, count in enumerate(_MEASURED):
            if count < len(order):
                posterior = prior.condition(np.arange(count), measured[:count], test_images=images)
                moments = posterior.moments()
                away, std = measured[count:] - moments.mean[count:], moments.std[count:]
                own[place] = _ranked_probability_score(away, std).mean()
        found.append(own)
    return np.array(found)


def _mean(found: NDArray[np.float64]) -> float:
    """Of the scores that there are, 0 where there are none."""
    known = found[~np.isnan(found)]
    return float(known.mean()) if known.size else 0.0


def _weights(likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights that make tasks most likely, by EM (Eq. 1).

    Args:
        likelihood: Shape (n, r, g), logarithm: of every task by every model at every scale.

    Returns:
        Shape (r, g), positive, sum 1.
    """
    expected = np.broadcast_to(EXPECTED / likelihood.shape[1], likelihood.shape[1:])
    weights = expected
    for _ in range(_ITERATIONS):
        joint = likelihood + np.log(weights)
        shares = np.exp(joint - logsumexp(joint, axis=(1, 2), keepdims=True))
        counted = shares.sum(axis=0) + expected
        weights = counted / counted.sum()
    return weights


def _ranked_probability_score(
    away: NDArray[np.float64], std: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The scores (Eq. 2) of Gaussian predictions that are ``away`` from the truth."""
    score = away / std
    density = np.exp(-0.5 * score**2) / np.sqrt(2 * np.pi)
    crps: NDArray[np.float64] = std * (
        score * (2 * ndtr(score) - 1) + 2 * density - 1 / np.sqrt(np.pi)
    )
    return crps
