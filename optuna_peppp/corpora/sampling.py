"""Sampling schemes of meta-training: which entries of an error matrix to measure.

Notation (paper, Section 3.1): M (n, d) memory of d configurations on n tasks, P (n, d) the
probability that an entry is measured. Uniform sampling measures every entry with one
probability; sampling by memory prefers cheap ones, P_ij = sigma(1 / M_ij).
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from optuna_peppp.choices import Scheme as Scheme


def probabilities(
    memory: ArrayLike, fraction: float, scheme: Scheme = "uniform"
) -> NDArray[np.float64]:
    """The probability that each entry is measured (paper, Sections 3.1 and E.2).

    By memory, sigma is the empirical distribution function of 1 / M scaled to [0, p_max]: the
    cheapest entry is measured with probability p_max, the median one with half of it. p_max
    is chosen so that ``fraction`` of the entries is measured on average.

    Args:
        memory: Shape (n, d), M, positive; the unit does not matter.
        fraction: Expected share of the entries to measure, above 0 and at most 1; by memory
            somewhat above one half at most, which is where p_max is 1.
        scheme: ``"uniform"`` or ``"memory"``.

    Returns:
        Shape (n, d), above 0.

    Raises:
        ValueError: An unknown scheme, a fraction out of range, or ``memory`` is not a matrix of
            positive numbers.

    >>> probabilities([[1, 2], [4, 3]], 0.5, "memory")
    array([[0.8, 0.6],
           [0.2, 0.4]])
    """
    if scheme not in get_args(Scheme):
        raise ValueError(
            f"scheme must be one of {', '.join(map(repr, get_args(Scheme)))}; got {scheme!r}"
        )
    sizes = np.asarray(memory, dtype=np.float64)
    if sizes.ndim != 2 or sizes.size == 0 or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(
            "memory must be a matrix of positive numbers, tasks by configurations; got shape "
            f"{sizes.shape}, smallest {sizes.min(initial=np.inf)}"
        )
    if scheme == "uniform":
        scale, largest = np.ones(sizes.shape), 1.0
    else:
        # Entries of equal memory are equally likely: the largest of their ranks.
        scale = rankdata(-sizes, method="max").reshape(sizes.shape) / sizes.size
        largest = float(scale.mean())
    if not 0 < fraction <= largest:
        raise ValueError(
            f"fraction must be above 0 and at most {largest:.4g} with the scheme {scheme!r}; "
            f"got {fraction}"
        )
    chances: NDArray[np.float64] = np.minimum(scale * (fraction / largest), 1.0)
    return chances


def plan(
    memory: ArrayLike, fraction: float, scheme: Scheme = "uniform", seed: int = 0
) -> NDArray[np.bool_]:
    """Draws the entries to measure, each independently.

    A configuration that chance leaves out altogether could not be learned: it is added once, on
    the task where it needs the least memory, and of equal ones where the fewest measurements
    are planned.

    Args:
        memory: As for :func:`probabilities`.
        fraction: As for :func:`probabilities`.
        scheme: As for :func:`probabilities`.
        seed: Fixes the draw.

    Returns:
        Shape (n, d), true where an entry is to be measured.

    Raises:
        ValueError: As :func:`probabilities`.
    """
    sizes = np.asarray(memory, dtype=np.float64)
    chances = probabilities(sizes, fraction, scheme)
    drawn: NDArray[np.bool_] = np.random.default_rng(seed).random(chances.shape) < chances
    for column in np.flatnonzero(~drawn.any(axis=0)):
        row = np.lexsort((drawn.sum(axis=1), sizes[:, column]))[0]
        drawn[row, column] = True
    return drawn


def inverse_probability(chances: ArrayLike) -> NDArray[np.float64]:
    """Weights that undo the preference of a sampling scheme (paper, Section 3.1).

    Args:
        chances: Shape (n, d), the probabilities of :func:`probabilities`, above 0.

    Returns:
        Shape (n, d), 1 / P scaled to a maximum of 1: weights of weighted SoftImpute.

    Raises:
        ValueError: A probability is not above 0 and at most 1.

    >>> inverse_probability([[0.1, 0.2]])
    array([[1. , 0.5]])
    """
    given = np.asarray(chances, dtype=np.float64)
    if given.size == 0 or not ((given > 0) & (given <= 1)).all():
        raise ValueError("chances must be probabilities above 0 and at most 1")
    weights: NDArray[np.float64] = given.min() / given
    return weights
