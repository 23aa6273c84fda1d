"""Configurations that were measured more than once count by their mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def averaged(indices: ArrayLike, values: ArrayLike, d: int) -> NDArray[np.float64]:
    """The mean value of each of d configurations; NaN where there is none.

    Args:
        indices: Shape (m,), configurations.
        values: Shape (m,).
        d: Number of configurations.

    Returns:
        Shape (d,).

    >>> averaged([2, 0, 2], [0.25, 0.5, 0.75], 3)
    array([0.5, nan, 0.5])
    """
    where = np.asarray(indices, dtype=np.intp)
    counts = np.bincount(where, minlength=d)
    sums = np.bincount(where, weights=np.asarray(values, dtype=np.float64), minlength=d)
    means: NDArray[np.float64] = sums / np.where(counts, counts, np.nan)
    return means
