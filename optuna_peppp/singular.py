"""The leading singular vectors of a matrix."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, svds

_FEW: Final = 1 / 20
"""Up to this share of all singular vectors it is quicker to compute only them. Measured."""


def leading(
    matrix: NDArray[np.float64] | LinearOperator, rank: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The leading part of a singular value decomposition, to machine precision.

    Args:
        matrix: Shape (n, d).
        rank: How many singular values, at least 1; fewer where there are fewer.

    Returns:
        Left vectors (n, rank), singular values (rank,), the largest first, and right vectors
        (d, rank).
    """
    size = min(matrix.shape)
    if rank > _FEW * size and not isinstance(matrix, LinearOperator):
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
    else:
        start = np.random.default_rng(0).standard_normal(size)
        left, values, right = svds(matrix, k=rank, v0=start)
        left, values, right = left[:, ::-1], values[::-1], right[::-1]
    strengths = np.asarray(values[:rank], dtype=np.float64)
    return left[:, :rank], strengths, right[:rank].T
