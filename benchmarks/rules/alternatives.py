"""Rules that choose by the same posterior as ``bayesian`` and differ in what they score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.acquisition.improvement import variance_reduction
from optuna_peppp.acquisition.strategies import (
    PAPER,
    STRATEGIES,
    Progress,
    Strategy,
    posterior_mean,
)
from optuna_peppp.growth import expected_growth
from optuna_peppp.meta.posterior import Moments

Score = Callable[[Moments, Progress], NDArray[np.float64]]
"""What measuring every configuration is worth, given the posterior."""


def _improvement(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """Expected hypervolume improvement over what was measured."""
    indices = list(progress.indices)
    return expected_growth(
        progress.memory,
        moments.mean,
        moments.std,
        progress.memory[indices],
        np.array(progress.errors, dtype=np.float64),
    )


def _by_std(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    gained: NDArray[np.float64] = _improvement(moments, progress) * np.sqrt(moments.signal)
    return gained


def _over_means(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """The same over the posterior means of what was measured, which are not optimistic."""
    indices = list(progress.indices)
    return expected_growth(
        progress.memory, moments.mean, moments.std, progress.memory[indices], moments.mean[indices]
    )


def _reduction(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    return variance_reduction(moments)


def _hidden(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """Variance reduction of what may not be measured only."""
    return _weighted_reduction(moments, (~progress.feasible).astype(np.float64))


def _front(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """Variance reduction, weighted by what each configuration may add to the frontier."""
    growth = _improvement(moments, progress)
    return _weighted_reduction(moments, growth / (growth.max() or 1.0))


def _weighted_reduction(moments: Moments, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """As variance_reduction, each configuration's variance weighted."""
    spread = moments.directions @ moments.latent
    gram = (spread.T * weights) @ spread
    taken = np.einsum("jk,kl,jl->j", moments.directions, gram, moments.directions, optimize=True)
    reduction: NDArray[np.float64] = taken / (moments.signal + moments.noise)
    return reduction


def _determinant(moments: Moments, progress: Progress) -> NDArray[np.float64]:
    """Bayesian D-optimal design: what raises the determinant of the latent's precision most."""
    return moments.signal / moments.noise


def _by(score: Score, first: Sequence[Score] = ()) -> Strategy:
    """The strategy that measures what scores highest; its first picks by other scores."""

    def choose(progress: Progress) -> int:
        count = len(progress.indices)
        rule = first[count] if count < len(first) else score
        moments = progress.meta.prior.condition(progress.indices, progress.errors).moments()
        free = progress.feasible.copy()
        free[list(progress.indices)] = False
        return int(np.where(free, rule(moments, progress), -np.inf).argmax())

    return Strategy(choose, posterior_mean)


NO_CAP: Final[Mapping[str, Strategy]] = {
    "the rule": STRATEGIES["bayesian"],
    "portfolio": STRATEGIES["portfolio"],
    "improvement alone": _by(_improvement),
    "improvement x variance": _by(lambda m, p: _improvement(m, p) * m.signal),
    "improvement over posterior means x std": _by(
        lambda m, p: _over_means(m, p) * np.sqrt(m.signal)
    ),
    "one informing pick, then the rule": _by(_by_std, [_reduction]),
    "two D-optimal picks, then the rule": _by(_by_std, [_determinant, _determinant]),
    "informing throughout": _by(_reduction),
    "ED-MF order": replace(PAPER["ed-mf"], predict=posterior_mean),
}

CAP: Final[Mapping[str, Strategy]] = {
    "the rule": STRATEGIES["bayesian"],
    "variance of what is hidden only": _by(_hidden),
    "variance, frontier first": _by(_front),
    "variance per root of memory": _by(lambda m, p: _reduction(m, p) / np.sqrt(p.memory)),
    "D-optimal": _by(_determinant),
    "improvement x std": _by(_by_std),
    "ED-MF, as in the paper": PAPER["ed-mf"],
    "QR-MF, as in the paper": PAPER["qr-mf"],
}
