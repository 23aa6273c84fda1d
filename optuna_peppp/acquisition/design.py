"""Designs: which configurations to measure, in which order.

Notation: Y (d, k) holds the embedding y_j of configuration j, S the configurations chosen so
far, X the sum of y_j y_j' over S. D-optimal designs maximize det X (paper, Problem 1). One more,

    det(X + y y') = (1 + y' X^-1 y) det X                          what it adds,                 (1)
    (X + y y')^-1 = X^-1 - X^-1 y y' X^-1 / (1 + y' X^-1 y)        Sherman and Morrison,         (2)

and while X is singular, the determinant within the span of the chosen grows by the squared length
of what is orthogonal to them,

    ||y - B' B y||^2,    B an orthonormal basis of the chosen, one a row.                        (3)

Every order is nested: its first m entries are the design of m measurements. Ties go to the
smallest index.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DEPENDENT: Final = 1e-6
"""A vector with a shorter residual, relative to the longest vector, counts as dependent. X then
has eigenvalues down to the square of it, which float64 still inverts."""

_TIE: Final = 1e-9
"""Scores that differ by less than this, relatively, are equal: rounding decides no order."""


def greedy_order(
    embeddings: ArrayLike,
    count: int,
    *,
    feasible: ArrayLike | None = None,
    start: Iterable[int] = (),
) -> list[int]:
    """The next configurations of a greedy D-optimal design (paper, Algorithm 2).

    While the chosen embeddings do not span those of the feasible configurations, the one with
    the largest residual comes next (QR with column pivoting); then the one with the largest
    y' X^-1 y, which is the one that raises det X most.

    Args:
        embeddings: Shape (d, k), the embedding of every configuration.
        count: How many configurations to choose; all that remain where fewer do.
        feasible: Shape (d,), true where a configuration may be chosen. Default: everywhere.
        start: Configurations that are already chosen, feasible or not, in any order.

    Returns:
        Indices of feasible configurations outside ``start``, in the order of the design.

    Raises:
        ValueError: A shape is wrong, an embedding is not finite, ``count`` is negative or an
            index of ``start`` is out of range.

    >>> greedy_order([[2, 0], [0, 1], [1, 1], [3, 0]], 3)
    [3, 1, 2]
    """
    vectors = _matrix("embeddings", embeddings)
    if count < 0:
        raise ValueError(f"count must not be negative; got {count}")
    chosen = [int(index) for index in start]
    available = _feasible(feasible, len(vectors))
    for index in chosen:
        if not 0 <= index < len(vectors):
            raise ValueError(
                f"start must hold indices between 0 and {len(vectors) - 1}; got {index}"
            )
        available[index] = False

    pivots, basis = _pivots(vectors, available, chosen, count)
    order = pivots[:]
    chosen += pivots
    available[pivots] = False

    # In the coordinates of the span X is regular, whatever the rank of the embeddings.
    coordinates = vectors @ basis.T
    root = np.linalg.pinv(coordinates[chosen])
    inverse = root @ root.T
    while len(order) < count and available.any():
        spread = coordinates @ inverse
        index = _first_largest(np.einsum("jr,jr->j", spread, coordinates), available)  # Eq. 1
        # Eq. 2: X <- X + y y'.
        inverse -= np.outer(spread[index], spread[index]) / (1 + spread[index] @ coordinates[index])
        order.append(index)
        available[index] = False
    return order


def qr_order(
    columns: ArrayLike, feasible: ArrayLike | None = None, count: int | None = None
) -> list[int]:
    """Feasible columns in the order of QR with column pivoting (paper, E.1, QR-MF).

    Args:
        columns: Shape (n, d), the error matrix: E P = Q R.
        feasible: Shape (d,), true where a column may be chosen. Default: everywhere.
        count: How many columns to choose. Default: all.

    Returns:
        Indices of the feasible columns; those that depend on earlier ones last, by index.

    Raises:
        ValueError: A shape is wrong or a number is not finite.

    >>> qr_order([[1, 2, 0], [0, 0, 1]])
    [1, 2, 0]
    """
    vectors = _matrix("columns", columns).T
    available = _feasible(feasible, len(vectors))
    count = len(vectors) if count is None else count
    pivots, _ = _pivots(vectors, available, [], count)
    available[pivots] = False
    return (pivots + np.flatnonzero(available).tolist())[:count]


def random_order(d: int, seed: int, feasible: ArrayLike | None = None) -> list[int]:
    """All feasible configurations in random order (paper, E.1, RANDOM-MF).

    Args:
        d: Number of configurations.
        seed: Fixes a permutation of all d, of which the feasible ones are kept.
        feasible: Shape (d,), true where a configuration may be chosen. Default: everywhere.

    Raises:
        ValueError: ``feasible`` has another shape.
    """
    available = _feasible(feasible, d)
    permutation = np.random.default_rng(seed).permutation(d)
    return [int(index) for index in permutation[available[permutation]]]


def _pivots(
    vectors: NDArray[np.float64], available: NDArray[np.bool_], start: list[int], count: int
) -> tuple[list[int], NDArray[np.float64]]:
    """Up to ``count`` pivots of QR with column pivoting, continued from ``start``.

    Stops where the chosen vectors span the available ones.

    Returns:
        The pivots, and an orthonormal basis of the chosen vectors, one a row.
    """
    residuals = vectors.copy()
    # Choosing a vector moves it from the available ones to the start and must not change this.
    relevant = available.copy()
    relevant[start] = True
    threshold = _DEPENDENT * np.linalg.norm(vectors[relevant], axis=1).max(initial=0.0)
    basis = np.empty((0, vectors.shape[1]))

    def add(index: int) -> None:
        """Extends the basis by a vector (modified Gram-Schmidt) unless it depends on it."""
        nonlocal basis
        if np.linalg.norm(residuals[index]) <= threshold:
            return
        # Cancellation leaves a short residual oblique, more so with every short one before it:
        # orthogonalize once more.
        direction = residuals[index] - basis.T @ (basis @ residuals[index])
        direction /= np.linalg.norm(direction)
        residuals[:] -= np.outer(residuals @ direction, direction)
        basis = np.vstack((basis, direction))

    for index in start:
        add(index)
    pivots: list[int] = []
    remaining = available.copy()
    while len(pivots) < count and remaining.any():
        norms = np.linalg.norm(residuals, axis=1)  # Eq. 3
        index = _first_largest(norms, remaining)
        if norms[index] <= threshold:
            break
        add(index)
        pivots.append(index)
        remaining[index] = False
    return pivots, basis


def _first_largest(scores: NDArray[np.float64], available: NDArray[np.bool_]) -> int:
    """The first available index whose score is the largest, up to rounding."""
    largest = scores[available].max()
    return int(np.argmax(available & (scores >= largest * (1 - _TIE))))


def _matrix(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must be a matrix; got shape {array.shape}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{name} must be finite; {name}[{row}, {column}] is {array[row, column]}")
    return array


def _feasible(feasible: ArrayLike | None, d: int) -> NDArray[np.bool_]:
    """A copy of ``feasible``, all true where it is None."""
    mask = np.ones(d, dtype=bool) if feasible is None else np.array(feasible, dtype=bool)
    if mask.shape != (d,):
        raise ValueError(
            f"feasible must have shape ({d},), one entry per configuration; got {mask.shape}"
        )
    return mask
