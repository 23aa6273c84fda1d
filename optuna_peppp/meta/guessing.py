"""Learning although configurations were never measured, or from one past task alone.

The prior of a new task is the cold one, moved by what past tasks say
(:mod:`optuna_peppp.meta.warm_start`). The factor models of the configurations that were measured
(:mod:`optuna_peppp.meta.averaging`), continued to the others by it, take over only if a paired
t-test is sure that they predict tasks which are left out better, from a few of their measurements:
of two or three tasks that were measured in part they tell too little.

Notation: S are the configurations that were measured, U the others, and mean + Y z + noise, with
noise variances v, the most likely model of the former prior. The factor models' errors x_S move
those of U as far as these vary with them,

    x_U = mean_U + A (x_S - mean_S) + Y_U w + noise,   w ~ N(0, C),                              (1)
    C = (I + Y_S' V_S^-1 Y_S)^-1,   A = Y_U C Y_S' V_S^-1.                                       (2)

On a scale of log odds, mean is that of the errors transformed, and Y_U w and the noise are
multiplied by the slope of the transform there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.averaging import Fitted, Learned, learn, scores
from optuna_peppp.meta.cold_start import cold_prior
from optuna_peppp.meta.committee import Committee
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.playing import Played, preferred
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.transforms import slope, transformed
from optuna_peppp.meta.warm_start import WarmStart

_COMMITTEE: Final = Committee(np.array([1.0, 0.5, 0.5, 0.5]), np.inf)
"""Past tasks that are guessed for the most part count half: of one task, or two, the portfolio
would otherwise outvote the posterior, and be worse than no past tasks at all after ten trials."""

_SHOWN: Final = 3
"""Configurations that a message names."""


@dataclass(frozen=True, slots=True, eq=False)
class Guessed:
    """What n past tasks tell of all d configurations.

    Attributes:
        prior: The prior of a new task.
        errors: Shape (n, d), what was not measured as the prior expects it, given what was.
        variance: Shape (d,), of these guesses, mean over tasks; what was measured has none.
        committee: Who votes on what to measure next.
        selection: What is guessed and how, in words.
    """

    prior: TaskPrior
    errors: NDArray[np.float64]
    variance: NDArray[np.float64]
    committee: Committee
    selection: str

    @classmethod
    def of(
        cls, matrix: ErrorMatrix, rank: int | None, test_images: NDArray[np.float64] | None
    ) -> Self:
        """Learns from n >= 1 tasks of which each was measured somewhere.

        Args:
            matrix: The past tasks.
            rank: Of the factor models; by default several are averaged.
            test_images: Shape (n,), how many images errors were counted on, where known.
        """
        errors, n = matrix.errors, len(matrix.tasks)
        seen = np.flatnonzero(matrix.observed.any(axis=0))
        start = WarmStart.of(cold_prior(matrix.space), errors)
        warm = start.prior()
        prior, committee, words = warm, _COMMITTEE, [_unmeasured(matrix)]
        factors = _Factors.of(start, errors, seen, rank, test_images) if n > 1 else None
        if factors is not None:
            words.append(str(factors))
        if factors is not None and factors.better:
            prior = continued(factors.learned.prior, seen, warm.models[0])
        completed, variance = prior.completed(errors, test_images)
        if factors is not None and factors.better:
            played = Played.through(matrix, completed, factors.learned, test_images)
            committee = played.committee
            words.append(str(played))
        else:
            words.append(
                "What to measure next: worlds and portfolio count half beside the posterior, since "
                "past tasks are guessed for the most part."
            )
        return cls(prior, completed, variance, committee, "\n".join(words))


@dataclass(frozen=True, slots=True, eq=False)
class _Factors:
    """The factor models of what was measured, beside the cold prior moved by past tasks.

    Attributes:
        learned: The factor models.
        scores: Shape (t, 2), continuous ranked probability scores of t tasks that were left out:
            by the cold prior moved by the others, and by the factor models.
    """

    learned: Learned
    scores: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        start: WarmStart,
        errors: NDArray[np.float64],
        seen: NDArray[np.intp],
        rank: int | None,
        test_images: NDArray[np.float64] | None,
    ) -> Self:
        """From errors (n, d), n > 1, of the configurations ``seen`` on some task."""
        measured, limit = errors[:, seen], None if rank is None else min(rank, len(seen))
        learned = learn(measured, rank=limit, test_images=test_images)
        best = learned.candidates[0]
        fitted = Fitted.to(measured, test_images, best.transform, best.noise, learned.rank)
        both = [
            scores(priors, measured, test_images)
            for priors in (start.left_out(fitted.indices, seen), fitted.left_out_priors())
        ]
        comparable = ~np.isnan(both[0]).all(axis=1)
        means = [np.nanmean(one[comparable], axis=1) for one in both]
        return cls(learned, np.column_stack(means))

    @property
    def better(self) -> bool:
        """Whether factor models surely predict better."""
        return len(self.scores) > 1 and preferred(-self.scores) == 1

    def __str__(self) -> str:
        if not len(self.scores):
            return "Too little was measured to compare with factor models."
        moved, factors = self.scores.mean(axis=0).tolist()
        chosen = (" (chosen)", "") if not self.better else ("", " (chosen)")
        best = self.learned.candidates[0]
        return (
            "Continuous ranked probability score of left-out tasks: what the space tells, moved by "
            f"past tasks: {moved:.5f}{chosen[0]}; factor models of what was measured, "
            f"{best.transform}, {best.noise} noise: {factors:.5f}{chosen[1]}."
        )


def continued(prior: TaskPrior, seen: NDArray[np.intp], warm: FactorModel) -> TaskPrior:
    """A prior of some configurations, continued to all by how they vary with them (Eqs. 1, 2).

    Args:
        prior: Of m configurations.
        seen: Shape (m,), which these are of all d, ascending.
        warm: Of all d, on errors as they are.
    """
    unseen = np.setdiff1d(np.arange(len(warm.mean)), seen)
    loadings, noise = warm.loadings[seen], warm.noise[seen]
    weighted = loadings.T / noise
    covariance = np.linalg.inv(np.eye(warm.rank) + weighted @ loadings)  # Eq. 2
    moving = warm.loadings[unseen] @ covariance @ weighted
    mean = transformed(np.clip(warm.mean, 0.0, 1.0), prior.transform)
    steepness = slope(np.clip(warm.mean[unseen], 0.0, 1.0), prior.transform)
    own = steepness[:, None] * (warm.loadings[unseen] @ np.linalg.cholesky(covariance))
    models = []
    for model in prior.models:
        whole = FactorModel(
            _placed(seen, model.mean, mean[unseen] + moving @ (model.mean - mean[seen])),
            np.column_stack(
                (
                    _placed(seen, model.loadings, moving @ model.loadings),
                    _placed(seen, np.zeros_like(loadings), own),
                )
            ),
            _placed(seen, model.noise, steepness**2 * warm.noise[unseen] + moving**2 @ model.noise),
        )
        models.append(whole)
    return TaskPrior(tuple(models), prior.scales, prior.weights, prior.transform)


def _placed(
    seen: NDArray[np.intp], ours: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rows ``ours`` at ``seen``, the others everywhere else."""
    whole = np.empty((len(ours) + len(others), *ours.shape[1:]))
    whole[seen] = ours
    whole[np.setdiff1d(np.arange(len(whole)), seen)] = others
    return whole


def _unmeasured(matrix: ErrorMatrix) -> str:
    """What was never measured, and what is said of it instead."""
    (n, d), space = matrix.errors.shape, matrix.space
    never = np.flatnonzero(~matrix.observed.any(axis=0))
    shown = "; ".join(
        ", ".join(f"{name} {value}" for name, value in space.params(index).items())
        for index in never[:_SHOWN].tolist()
    )
    more = "; ..." if never.size > _SHOWN else ""
    named = f" ({shown}{more})" if never.size else ""
    tasks = "the one past task" if n == 1 else f"any of {n} past tasks"
    return (
        f"Of {d} configurations {never.size} were never measured on {tasks}{named}. What was not "
        "measured is guessed, as far as configurations have similar values."
    )
