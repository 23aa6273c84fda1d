"""Strategies: which configuration to measure next, and what to predict from what was measured.

One chooser for all: the sampler makes a :class:`Progress` of the trials of a study, the evaluation
makes one of the row of a corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.acquisition import improvement
from optuna_peppp.acquisition.design import greedy_order, qr_order, random_order
from optuna_peppp.meta.committee import portfolio_growth
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.meta.worlds import Worlds


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
        live: What is being measured.
        offered: Shape (d,), true for the configurations to choose from, one at least; by default
            all that are feasible and were not measured.
        test_images: How many images an error is counted on, where known.
    """

    meta: MetaModel
    memory: NDArray[np.float64]
    considered: NDArray[np.bool_]
    feasible: NDArray[np.bool_]
    indices: Sequence[int] | NDArray[np.intp]
    errors: Sequence[float] | NDArray[np.float64]
    seed: int
    live: Sequence[int] | NDArray[np.intp] = ()
    offered: NDArray[np.bool_] | None = None
    test_images: int | None = None

    @property
    def choices(self) -> NDArray[np.bool_]:
        """Shape (d,), true for the configurations to choose from."""
        return self.feasible & ~_mask(self, self.indices) if self.offered is None else self.offered


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
        choose: The next configuration: the index of one of :attr:`Progress.choices`.
        predict: Shape (d,), the errors of all configurations.
    """

    choose: Callable[[Progress], int]
    predict: Callable[[Progress], NDArray[np.float64]] = least_squares


def _bayesian(progress: Progress) -> int:
    """What is worth most (:func:`improvement.worth`)."""
    considered = np.flatnonzero(progress.considered)
    prior = progress.meta.prior
    if not progress.considered.all():
        # What is not considered does not exist here: it is not hidden by a measurement cap.
        prior = prior.restricted(considered)
    worth = improvement.worth(
        prior,
        _worlds(progress),
        progress.meta.committee,
        progress.memory[considered],
        progress.feasible[considered],
        progress.choices[considered],
        np.searchsorted(considered, progress.indices),
        progress.errors,
        live=np.searchsorted(considered, progress.live),
        test_images=progress.test_images,
    )
    return int(considered[np.where(progress.choices[considered], worth, -np.inf).argmax()])


def _portfolio(progress: Progress) -> int:
    """What the past tasks, together, would want next (:func:`committee.portfolio_growth`)."""
    considered = np.flatnonzero(progress.considered)
    worlds = _worlds(progress)
    if worlds is None:
        raise ValueError(
            "the portfolio is an order that past tasks want, and this meta-model was made without "
            "any; take strategy='bayesian', or MetaModel.fit to past tasks"
        )
    indices = np.flatnonzero(_used(progress)[considered])
    grown = portfolio_growth(worlds, progress.memory[considered], indices)
    return int(considered[np.where(progress.choices[considered], grown, -np.inf).argmax()])


def _worlds(progress: Progress) -> Worlds | None:
    """The past tasks under the configurations that are considered."""
    if progress.considered.all() or progress.meta.worlds is None:
        return progress.meta.worlds
    memory = progress.meta.memory
    return Worlds.of(
        progress.meta.errors[:, progress.considered],
        None if memory is None else memory[:, progress.considered],
    )


def _ed_mf(progress: Progress) -> int:
    """Greedy D-optimal design, continued from all that was measured or is live."""
    start = np.flatnonzero(_used(progress)).tolist()
    return greedy_order(progress.meta.embeddings, 1, feasible=progress.choices, start=start)[0]


def _qr_mf(progress: Progress) -> int:
    """The pivots of a QR factorization of the error matrix, in their order."""
    taken = int((progress.feasible & ~progress.choices).sum())
    return _first(progress, qr_order(progress.meta.errors, progress.feasible, taken + 1))


def _random_mf(progress: Progress) -> int:
    """A random order."""
    return _first(progress, random_order(len(progress.memory), progress.seed, progress.feasible))


def _first(progress: Progress, order: Sequence[int]) -> int:
    """The first of an order that may be chosen, where none may the one of the smallest index."""
    choices = progress.choices
    return next((index for index in order if choices[index]), int(choices.argmax()))


def _used(progress: Progress) -> NDArray[np.bool_]:
    """Shape (d,), true where something was measured or is live, and is not offered once more."""
    used = _mask(progress, progress.indices) | _mask(progress, progress.live)
    return used & ~progress.choices


def _mask(progress: Progress, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[np.bool_]:
    """Shape (d,), true at the indices."""
    mask = np.zeros(len(progress.memory), dtype=np.bool_)
    mask[np.asarray(indices, dtype=np.intp)] = True
    return mask


PAPER: Final[Mapping[str, Strategy]] = {
    "ed-mf": Strategy(_ed_mf),
    "qr-mf": Strategy(_qr_mf),
    "random-mf": Strategy(_random_mf),
}
"""The paper's, with the paper's prediction."""

STRATEGIES: Final[Mapping[str, Strategy]] = {
    "bayesian": Strategy(_bayesian, posterior_mean),
    "portfolio": Strategy(_portfolio, posterior_mean),
    **PAPER,
}
"""The strategies of :class:`optuna_peppp.PEPPPSampler`."""
