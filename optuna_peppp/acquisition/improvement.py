"""What a measurement is worth, where memory is known and only the error is not.

Notation: configuration j needs memory m_j and has the error e_j ~ N(mean_j, std_j^2), measurements
included. f(m) is the lowest measured error among configurations of memory m or less, 1 where there
is none: a staircase, of level f_s between the memories m_s and m_{s+1}, the last of which is the
reference m_r (:func:`pareto.reference`). Phi and phi are the standard Gaussian's distribution and
density. A measurement of e_j lets the dominated area grow by

    integral from m_j to m_r of max(f(m) - e_j, 0) dm                                            (1)
        = sum_s (m_{s+1} - max(m_s, m_j))_+ max(f_s - e_j, 0),                                   (2)

since memory is known; so its expectation is a sum of expected improvements on one level each,

    E max(f_s - e_j, 0) = std_j (z Phi(z) + phi(z)),   z = (f_s - mean_j) / std_j.               (3)

A measurement of j lowers the covariance S of all errors' signals, with N_j the noise of j, by

    S_j S_j' / (S_jj + N_j),   whose trace is   ||S_j||^2 / (S_jj + N_j),                        (4)

and where S = D C D' (:class:`~optuna_peppp.meta.posterior.Moments`),

    ||S_j||^2 = d_j' (C D' D C) d_j,   d_j' the row j of D.                                      (5)
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

    The sum of Eq. 2 over the steps of the staircase, its improvements replaced by Eq. 3.

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
    for block in blocks(len(memory), len(starts)):
        widths = ends[:, None] - np.maximum(starts[:, None], memory[block])
        z = (levels[:, None] - mean[block]) / std[block]
        improvement = z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)  # Eq. 3
        improvement *= std[block]
        growth[block] = np.einsum("sd,sd->d", np.maximum(widths, 0.0), improvement)  # Eq. 2
    return growth


def variance_reduction(moments: Moments) -> NDArray[np.float64]:
    """By how much a measurement lowers the summed variance of all errors' signals; shape (d,).

    Bayesian A-optimal design of a single measurement: the trace of Eq. 4.
    """
    directions = moments.directions
    inner = moments.latent @ (directions.T @ directions) @ moments.latent
    squares = np.empty(len(directions))
    for block in blocks(len(directions), len(inner)):
        rows = directions[block]
        squares[block] = np.einsum("jk,jk->j", rows @ inner, rows)  # Eq. 5
    return squares / (moments.signal + moments.noise)  # Eq. 4


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
    measured = np.asarray(indices, dtype=np.intp)
    found = np.asarray(errors, dtype=np.float64)
    moments = prior.condition(measured, found, test_images=test_images).moments()
    pending = np.setdiff1d(np.asarray(live, dtype=np.intp), measured)
    if pending.size:
        measured = np.append(measured, pending)
        found = np.append(found, np.clip(moments.mean[pending], 0.0, 1.0))
        moments = prior.condition(measured, found, test_images=test_images).moments()
    if not feasible.all():
        return variance_reduction(moments)
    growth = expected_hypervolume_improvement(
        memory, moments.mean, moments.std, memory[measured], found
    )
    if np.delete(growth, measured).max(initial=0.0) < WORTHWHILE * span(memory):
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
