"""What a measurement is worth.

A measurement of j lowers the covariance S of all errors' signals, with N_j the noise of j, by

    S_j S_j' / (S_jj + N_j),   whose trace is   ||S_j||^2 / (S_jj + N_j),                        (1)

and where S = D C D' (:class:`~optuna_peppp.meta.posterior.Moments`),

    ||S_j||^2 = d_j' (C D' D C) d_j,   d_j' the row j of D.                                      (2)
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.arrays import blocks
from optuna_peppp.corpora.measurements import averaged
from optuna_peppp.growth import expected_growth
from optuna_peppp.meta.committee import Committee, expected
from optuna_peppp.meta.posterior import Moments
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.worlds import Worlds
from optuna_peppp.pareto import span

WORTHWHILE: Final = 1e-3
"""Growth of the dominated area, relative to the range of memory times an error of 1, that is worth
a measurement."""


def variance_reduction(moments: Moments) -> NDArray[np.float64]:
    """By how much a measurement lowers the summed variance of all errors' signals; shape (d,).

    Bayesian A-optimal design of a single measurement: the trace of Eq. 1.
    """
    directions = moments.directions
    inner = moments.latent @ (directions.T @ directions) @ moments.latent
    squares = np.empty(len(directions))
    for block in blocks(len(directions), len(inner)):
        rows = directions[block]
        squares[block] = np.einsum("jk,jk->j", rows @ inner, rows)  # Eq. 2
    return squares / (moments.signal + moments.noise)  # Eq. 1


def worth(
    prior: TaskPrior,
    worlds: Worlds | None,
    committee: Committee,
    memory: NDArray[np.float64],
    feasible: NDArray[np.bool_],
    choices: NDArray[np.bool_],
    indices: ArrayLike,
    errors: ArrayLike,
    *,
    live: ArrayLike = (),
    test_images: int | None = None,
) -> NDArray[np.float64]:
    """What the next measurement of every configuration is worth: the rule of ``"bayesian"``.

    - While every configuration may be measured, measurements improve the frontier: the votes of
      posterior, worlds and portfolio (:mod:`optuna_peppp.meta.committee`). Without past tasks there
      is the posterior alone, whose expected growth counts times the standard deviation of the
      signal: of two configurations that promise the same, the one that is less known is measured.
    - When nothing is left to gain (without past tasks, less than a thousandth of the area), or
      under a measurement cap, which hides configurations that only a good prediction can find,
      they inform: the variance reduction.

    ``benchmarks/rules`` compares the rule with others.

    Args:
        prior: What past tasks tell of the errors of a new one.
        worlds: Past tasks as draws of a new one; None where there are none.
        committee: Who votes where there are any.
        memory: Shape (d,).
        feasible: Shape (d,), true where a configuration may be measured.
        choices: Shape (d,), true for the configurations to choose from.
        indices: Shape (m,), what was measured; repeats are averaged.
        errors: Shape (m,), in [0, 1].
        live: What is being measured: counts as measured, with the errors that are expected,
            where it was not measured already.
        test_images: How many images an error is counted on, where known.

    Returns:
        Shape (d,), of meaning in comparison only.
    """
    repeated = averaged(indices, errors, len(memory))
    measured = np.flatnonzero(~np.isnan(repeated))
    found = repeated[measured]
    moments = prior.condition(measured, found, test_images=test_images).moments()
    pending = np.setdiff1d(np.asarray(live, dtype=np.intp), measured)
    if pending.size:
        measured = np.append(measured, pending)
        found = np.append(found, np.clip(moments.mean[pending], 0.0, 1.0))
        moments = prior.condition(measured, found, test_images=test_images).moments()
    if not feasible.all():
        return variance_reduction(moments)
    if worlds is None:
        grown = expected_growth(memory, moments.mean, moments.std, memory[measured], found)
        if np.delete(grown, measured).max(initial=0.0) < WORTHWHILE * span(memory):
            return variance_reduction(moments)
        return grown * np.sqrt(moments.signal)
    members = expected(worlds, moments, memory, measured, found, committee.farthest)
    votes = committee.votes(members, choices)
    return votes if votes.any() else variance_reduction(moments)


def feared(
    memory: NDArray[np.float64], measured: NDArray[np.intp], failed: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Where a training is feared to fail, since it needs no less memory than others that did.

    Two configurations at least must have failed that need more than all that were measured: a
    single failure, or those of trainings that diverge in few bits, are no sign of a memory that
    is full.

    Args:
        memory: Shape (d,).
        measured: What was measured.
        failed: What failed, each configuration once.

    Returns:
        Shape (d,).
    """
    largest = memory[measured].max(initial=0.0)
    beyond = memory[failed][memory[failed] > largest]
    return memory >= (beyond.min() if beyond.size > 1 else np.inf)
