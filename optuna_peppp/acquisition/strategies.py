"""Strategies that can be evaluated: what to measure next, and what to predict from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.acquisition import improvement
from optuna_peppp.acquisition.design import greedy_order, qr_order, random_order
from optuna_peppp.meta.model import MetaModel


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """A new task, and what is known of it so far.

    Attributes:
        meta: What the other tasks tell.
        memory: Shape (d,), in any unit; may be NaN where not considered.
        considered: Shape (d,), true for the configurations that count at all.
        feasible: Shape (d,), true where one of these may be measured.
        indices: The configurations measured so far, in their order.
        errors: Their errors.
        seed: Fixes all random choices on this task.
    """

    meta: MetaModel
    memory: NDArray[np.float64]
    considered: NDArray[np.bool_]
    feasible: NDArray[np.bool_]
    indices: Sequence[int]
    errors: Sequence[float]
    seed: int


def least_squares(progress: Progress) -> NDArray[np.float64]:
    """The errors (d,) that the paper predicts (Section 3.2)."""
    return progress.meta.predict(progress.indices, progress.errors)[0]


def posterior_mean(progress: Progress) -> NDArray[np.float64]:
    """The errors (d,) to expect by the posterior."""
    posterior = progress.meta.prior.condition(progress.indices, progress.errors)
    return np.clip(posterior.moments().mean, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to measure and predict.

    Attributes:
        choose: The next configuration: the index of a feasible one that was not measured.
        predict: Shape (d,), the errors of all configurations.
    """

    choose: Callable[[Progress], int]
    predict: Callable[[Progress], NDArray[np.float64]] = least_squares


def _bayesian(progress: Progress) -> int:
    # What is not considered does not exist here: it is not hidden by a measurement cap.
    where = np.flatnonzero(progress.considered)
    worth = improvement.worth(
        progress.meta.prior.restricted(where),
        progress.memory[where],
        progress.feasible[where],
        np.searchsorted(where, progress.indices),
        progress.errors,
    )
    free = progress.feasible[where]
    free[np.searchsorted(where, progress.indices)] = False
    return int(where[np.where(free, worth, -np.inf).argmax()])


def _ed_mf(progress: Progress) -> int:
    embeddings = progress.meta.embeddings
    return greedy_order(embeddings, 1, feasible=progress.feasible, start=progress.indices)[0]


def _qr_mf(progress: Progress) -> int:
    return qr_order(progress.meta.errors, progress.feasible)[len(progress.indices)]


def _random_mf(progress: Progress) -> int:
    order = random_order(len(progress.feasible), progress.seed, progress.feasible)
    return order[len(progress.indices)]


PAPER: Final[Mapping[str, Strategy]] = {
    "ed-mf": Strategy(_ed_mf),
    "qr-mf": Strategy(_qr_mf),
    "random-mf": Strategy(_random_mf),
}
"""The paper's, with the paper's prediction."""

STRATEGIES: Final[Mapping[str, Strategy]] = {
    "bayesian": Strategy(_bayesian, posterior_mean),
    **PAPER,
}
"""The strategies of :class:`optuna_peppp.PEPPPSampler`, which choose the same configurations."""
