"""What a measurement is worth, where memory is known and only the error is not.

Notation: the measured frontier is a staircase, the lowest measured error f(m) among configurations
of memory m or less, 1 where there is none. Dominated area is counted up to the reference
point (:func:`reference`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from optuna_peppp import pareto
from optuna_peppp.arrays import blocks
from optuna_peppp.meta.posterior import Moments
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.pareto import reference, span

WORTHWHILE: Final = 1e-3
"""Growth of the dominated area, relative to the range of memory times an error of 1, that is worth
a measurement."""


def expected_hypervolume_improvement(
    memory: NDArray[np.float64],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    measured_memory: NDArray[np.float64],
    measured_errors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Expected growth of the dominated area by measuring a configuration, in closed form.

    With known memory m_j the growth is the integral of max(f(m) - e_j, 0) over m from m_j to the
    reference: a sum of one-dimensional expected improvements over the steps of the staircase to
    the right of m_j, each times its width.

    Args:
        memory: Shape (d,), of all configurations.
        mean: Shape (d,), of the errors that measurements will find.
        std: Shape (d,), positive, their standard deviations; errors are Gaussian.
        measured_memory: Shape (m,), of what was measured, within the reference.
        measured_errors: Shape (m,).

    Returns:
        Shape (d,), in the unit of memory.
    """
    end, worst = reference(memory)
    points = np.column_stack((measured_memory, measured_errors))
    steps = points[pareto.frontier(points)]
    starts = np.concatenate(([-np.inf], steps[:, 0]))
    levels = np.concatenate(([worst], steps[:, 1]))
    ends = np.append(starts[1:], end)
    growth = np.empty(len(memory))
    for some in blocks(len(memory), len(starts)):
        widths = ends[:, None] - np.maximum(starts[:, None], memory[some])
        score = (levels[:, None] - mean[some]) / std[some]
        improvement = score * ndtr(score) + np.exp(-0.5 * score**2) / np.sqrt(2 * np.pi)
        improvement *= std[some]
        growth[some] = np.einsum("sd,sd->d", np.maximum(widths, 0.0), improvement)
    return growth


def variance_reduction(moments: Moments) -> NDArray[np.float64]:
    """By how much a measurement lowers the summed variance of all errors' signals; shape (d,).

    Bayesian A-optimal design of a single measurement: with S the covariance of the signals and N
    the noise, measuring j takes S_j S_j' / (S_jj + N_j) off S.
    """
    # With S = D C D', the squares of S_j sum to d_j' (C D'D C) d_j.
    directions = moments.directions
    spread = moments.latent @ (directions.T @ directions) @ moments.latent
    reduction = np.empty(len(directions))
    for some in blocks(len(directions), len(spread)):
        rows = directions[some]
        reduction[some] = np.einsum("jk,jk->j", rows @ spread, rows)
    return reduction / (moments.signal + moments.noise)


def worth(
    prior: TaskPrior,
    memory: NDArray[np.float64],
    feasible: NDArray[np.bool_],
    indices: ArrayLike,
    errors: ArrayLike,
    *,
    live: ArrayLike = (),
    test_images: int | None = None,
) -> NDArray[np.float64]:
    """What the next measurement of every configuration is worth: the rule of ``"bayesian"``.

    - Measurements improve the frontier while every configuration may be measured and one is
      expected to add a thousandth to the dominated area: expected hypervolume improvement, times
      the standard deviation of the signal, so that of two configurations that promise the same,
      the one that is less known is measured.
    - Otherwise, when there is little left to gain, or under a measurement cap, which hides
      configurations that only a good prediction can find, they inform: the variance reduction.

    ``benchmarks/rules.py`` compares the rule with others.

    Args:
        prior: What past tasks tell.
        memory: Shape (d,).
        feasible: Shape (d,), true where a configuration may be measured.
        indices: Shape (m,), what was measured.
        errors: Shape (m,), in [0, 1].
        live: What is being measured: counts as measured, with the errors that are expected,
            where it was not measured already.
        test_images: How many images an error is counted on, where known.

    Returns:
        Shape (d,), of meaning in comparison only.
    """
    where = np.asarray(indices, dtype=np.intp)
    known = np.asarray(errors, dtype=np.float64)
    moments = prior.condition(where, known, test_images=test_images).moments()
    pending = np.setdiff1d(np.asarray(live, dtype=np.intp), where)
    if pending.size:
        where = np.append(where, pending)
        known = np.append(known, np.clip(moments.mean[pending], 0.0, 1.0))
        moments = prior.condition(where, known, test_images=test_images).moments()
    if not feasible.all():
        return variance_reduction(moments)
    growth = expected_hypervolume_improvement(
        memory, moments.mean, moments.std, memory[where], known
    )
    if np.delete(growth, where).max(initial=0.0) < WORTHWHILE * span(memory):
        return variance_reduction(moments)
    return growth * np.sqrt(moments.signal)


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
