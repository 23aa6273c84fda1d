"""By how much a measurement lets the dominated area grow, where memory is known.

Notation: configuration j needs memory m_j and has the error e_j. f(m) is the lowest measured error
among configurations of memory m or less, 1 where there is none: a staircase, of level f_s between
the memories m_s and m_{s+1}, the last of which is the reference m_r (:func:`pareto.reference`). A
measurement of e_j lets the dominated area grow by

    integral from m_j to m_r of max(f(m) - e_j, 0) dm                                            (1)
        = sum_s (m_{s+1} - max(m_s, m_j))_+ max(f_s - e_j, 0),                                   (2)

since memory is known: a plain sum where errors are given, and where e_j ~ N(mean_j, std_j^2) a sum
of expected improvements on one level each, with Phi and phi the standard Gaussian's distribution
and density,

    E max(f_s - e_j, 0) = std_j (z Phi(z) + phi(z)),   z = (f_s - mean_j) / std_j.               (3)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from optuna_peppp import pareto
from optuna_peppp.arrays import blocks
from optuna_peppp.pareto import reference


def growth(
    memory: NDArray[np.float64],
    errors: NDArray[np.float64],
    measured_memory: NDArray[np.float64],
    measured_errors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Growth of the dominated area by measuring a configuration, in each of n worlds (Eq. 2).

    Args:
        memory: Shape (d,), of all configurations.
        errors: Shape (n, d), what a measurement finds in each world.
        measured_memory: Shape (m,), of what was measured, within the reference.
        measured_errors: Shape (n, m), what was found in each world; or (1, m), in all of them.

    Returns:
        Shape (n, d), in the unit of memory.
    """
    end, worst = reference(memory)
    order = np.argsort(measured_memory, kind="stable")
    starts = np.concatenate(([-np.inf], measured_memory[order]))
    lowest = np.minimum.accumulate(np.minimum(measured_errors[:, order], worst), axis=1)
    levels = np.column_stack((np.full(len(lowest), worst), lowest))
    # Where no world has a step, two levels are one.
    steps = np.concatenate(([True], (levels[:, 1:] < levels[:, :-1]).any(axis=0)))
    starts, levels = starts[steps], levels[:, steps]
    grown = np.zeros_like(errors)
    for start, stop, level in zip(starts, np.append(starts[1:], end), levels.T, strict=True):
        reached = np.flatnonzero(memory < stop)
        width = stop - np.maximum(start, memory[reached])
        grown[:, reached] += width * np.maximum(level[:, None] - errors[:, reached], 0.0)
    return grown


def expected_growth(
    memory: NDArray[np.float64],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    measured_memory: NDArray[np.float64],
    measured_errors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Expected hypervolume improvement by measuring a configuration, in closed form.

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
    grown = np.empty(len(memory))
    for block in blocks(len(memory), len(starts)):
        widths = ends[:, None] - np.maximum(starts[:, None], memory[block])
        z = (levels[:, None] - mean[block]) / std[block]
        improvement = z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)  # Eq. 3
        improvement *= std[block]
        grown[block] = np.einsum("sd,sd->d", np.maximum(widths, 0.0), improvement)  # Eq. 2
    return grown
