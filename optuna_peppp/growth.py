"""By how much a measurement lets the dominated area grow, where memory is known.

Notation: configuration j needs memory m_j and has the error e_j. f(m) is the lowest measured error
among configurations of memory m or less, 1 where there is none: a staircase, of level f_s between
the memories m_s and m_{s+1}, the last of which is the reference m_r (:func:`pareto.reference`). A
measurement of e_j lets the dominated area grow by

    integral from m_j to m_r of max(f(m) - e_j, 0) dm                                            (1)
        = F(m*_j) - F(m_j) - e_j (m*_j - m_j)   where m*_j > m_j, else 0                         (2)
        = sum_s (m_{s+1} - max(m_s, m_j))_+ max(f_s - e_j, 0),                                   (3)

with F the integral of f, and m*_j the memory at which f falls to e_j, m_r where it does not. Where
errors are given, Eq. 2 needs no sum over the steps; where e_j ~ N(mean_j, std_j^2), Eq. 3 is one of
expected improvements, with Phi and phi the standard Gaussian's distribution and density,

    E max(f_s - e_j, 0) = std_j (z Phi(z) + phi(z)),   z = (f_s - mean_j) / std_j.               (4)
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from optuna_peppp import pareto
from optuna_peppp.arrays import blocks
from optuna_peppp.pareto import reference

_APART: Final = 2.0
"""Between the levels of two worlds, which are in [0, 1]."""


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
    levels = np.minimum.accumulate(np.minimum(measured_errors[:, order], worst), axis=1)
    levels = np.column_stack((np.full(len(levels), worst), levels))
    # Where no world has a step, two levels are one.
    steps = (levels[:, 1:] < levels[:, :-1]).any(axis=0)
    levels = levels[:, np.append(True, steps)]
    starts = np.append(measured_memory[order][steps], end)
    area = np.cumsum(levels[:, 1:] * np.diff(starts), axis=1)
    area = np.column_stack((np.zeros(len(levels)), area))  # F, from the first step on
    # One search for all worlds, which lie _APART.
    row = np.arange(len(levels))[:, None]
    ascending = (levels[:, ::-1] + _APART * row).ravel()
    grown = np.empty_like(errors)
    for block in blocks(len(memory), len(errors)):
        m, e = memory[block], errors[:, block]
        step = np.searchsorted(starts[:-1], m, side="right")
        before = np.maximum(step - 1, 0)
        reached = area[:, before] + levels[:, step] * (m - starts[before])  # F(m_j)
        below = np.searchsorted(ascending, e + _APART * row, side="right") - levels.shape[1] * row
        fall = np.maximum(len(starts) - 1 - below, 0)
        grown[:, block] = np.take_along_axis(area, fall, axis=1) - reached - e * (starts[fall] - m)
        grown[:, block][starts[fall] <= m] = 0.0
    return np.maximum(grown, 0.0, out=grown)


def expected_growth(
    memory: NDArray[np.float64],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    measured_memory: NDArray[np.float64],
    measured_errors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Expected hypervolume improvement by measuring a configuration, in closed form.

    The sum of Eq. 3 over the steps of the staircase, its improvements replaced by Eq. 4.

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
        improvement = z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)  # Eq. 4
        improvement *= std[block]
        grown[block] = np.einsum("sd,sd->d", np.maximum(widths, 0.0), improvement)  # Eq. 3
    return grown
