"""What to measure next, by vote: the posterior, two kinds of worlds, and the portfolio.

Each member i of the committee expects that measuring configuration j lets the dominated area grow
by g_ij (:mod:`optuna_peppp.growth`):

- the *posterior*: the expectation over its Gaussian, over the measured staircase;
- *aligned* and *conditioned* worlds (:mod:`optuna_peppp.meta.worlds`): their weighted mean, over
  the measured staircase;
- the *portfolio*: the mean over past tasks as they were, each over its own staircase, as if its own
  errors had been measured. Alone, it chooses an order that is fixed before anything is measured,
  the one that the past tasks, together, would have wanted.

A vote counts in proportion to what its member sees to gain,

    v_j = sum_i w_i g_ij / max_j g_ij,                                                           (1)

the maximum over the configurations to choose from: members differ in how optimistic they are, late
above all, and would otherwise be outvoted by the one that is most. Before anything is measured the
portfolio decides alone, and where the task resembles no past one, the posterior.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.arrays import freeze
from optuna_peppp.growth import expected_growth, growth
from optuna_peppp.meta.posterior import Moments
from optuna_peppp.meta.worlds import Worlds
from optuna_peppp.pareto import span

MEMBERS: Final = ("posterior", "aligned", "conditioned", "portfolio")
"""In the order of :attr:`Committee.weights`."""


def portfolio_growth(
    worlds: Worlds, memory: NDArray[np.float64], indices: NDArray[np.intp]
) -> NDArray[np.float64]:
    """What past tasks as they were would gain, on average, after the configurations ``indices``.

    Args:
        worlds: Of d configurations.
        memory: Shape (d,), of the new task; counts where that of past tasks is not known.
        indices: Shape (m,), what was measured.

    Returns:
        Shape (d,), relative to the span of memory.
    """
    everyone = np.ones(len(worlds.errors), dtype=np.bool_)
    grown = np.zeros(len(memory))
    for needed, rows in worlds.memories or ((memory / span(memory), everyone),):
        errors = worlds.errors[rows]
        grown += growth(needed, errors, needed[indices], errors[:, indices]).sum(axis=0)
    return grown / len(everyone)


@dataclass(frozen=True, slots=True, eq=False)
class Committee:
    """The members' weights, and from where on a task is unlike all past ones.

    Attributes:
        weights: Shape (4,), w, of ``MEMBERS``; not negative, not all 0.
        farthest: How far the nearest past task may be: its misfit as a conditioned world, for each
            measurement.
    """

    weights: NDArray[np.float64]
    farthest: float

    def __post_init__(self) -> None:
        freeze(self, "weights", (len(MEMBERS),))
        if not (self.weights >= 0).all() or not self.weights.any() or not self.farthest > 0:
            raise ValueError(
                "weights must be at least 0, one of them more, and farthest positive; got "
                f"{self.weights.tolist()} and {self.farthest}"
            )

    @classmethod
    def voting(cls, names: Collection[str], farthest: float = np.inf) -> Self:
        """These members, all with the same weight."""
        return cls(np.array([float(name in names) for name in MEMBERS]), farthest)

    def votes(
        self,
        grown: Mapping[str, NDArray[np.float64]],
        choices: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """The votes (d,) of Eq. 1, 0 for what is not among the choices (d,).

        Args:
            grown: Shape (d,), what each of the members that vote expects (:func:`expected`); where
                none of them has a weight, they count alike.
            choices: Shape (d,), true for the configurations to choose from.
        """
        votes = np.zeros(len(choices))
        weights = dict(zip(MEMBERS, self.weights.tolist(), strict=True))
        if not any(weights[name] for name in grown):
            weights = dict.fromkeys(MEMBERS, 1.0)
        for name, weight in weights.items():
            if name in grown and (most := grown[name][choices].max(initial=0.0)) > 0:
                votes[choices] += weight * (grown[name][choices] / most)
        return votes


EVERYONE: Final = Committee.voting(MEMBERS)
"""All members, with the same weight, whatever the task resembles."""


def expected(
    worlds: Worlds,
    moments: Moments,
    memory: NDArray[np.float64],
    indices: NDArray[np.intp],
    errors: NDArray[np.float64],
    farthest: float = np.inf,
) -> dict[str, NDArray[np.float64]]:
    """What each member that votes expects to gain, shape (d,), each in a unit of its own.

    Args:
        worlds: Past tasks.
        moments: Of the posterior after these measurements.
        memory: Shape (d,).
        indices: Shape (m,), what was measured, each configuration once.
        errors: Shape (m,), what was found.
        farthest: As :attr:`Committee.farthest`.
    """
    if not indices.size:
        return {"portfolio": portfolio_growth(worlds, memory, indices)}
    measured = memory[indices]
    grown = {"posterior": expected_growth(memory, moments.mean, moments.std, measured, errors)}
    conditioned = worlds.conditioned(indices, errors)
    if conditioned.misfit.min() > farthest * indices.size:
        return grown
    for name, drawn in (("aligned", worlds.aligned(indices, errors)), ("conditioned", conditioned)):
        grown[name] = drawn.weights @ growth(memory, drawn.errors, measured, errors[None])
    return grown | {"portfolio": portfolio_growth(worlds, memory, indices)}
