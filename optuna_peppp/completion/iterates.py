"""What an iteration of the solver computes, of whole matrices or of factors and observed entries.

Notation: that of :mod:`optuna_peppp.completion.proximal`. An iterate is a product of factors of
rank r, and G is zero where nothing was observed. So where few singular values are wanted of a large
matrix, those of Y - t G(Y) are found from products with vectors (Lanczos), and inner products from
the factors: no entry is computed that was not observed. A whole matrix is decomposed by the Gram
matrix of its shorter side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from optuna_peppp.singular import leading

Matrix = NDArray[np.float64]

_FEW: Final = 1 / 6
"""Up to this share of eigenvectors it is quicker to compute only them. Measured."""

_LOW: Final = 1 / 30
"""Up to this share of all singular values it is quicker to keep to factors. Measured."""


def is_low(rank: int, shape: tuple[int, ...]) -> bool:
    """Whether a rank is so low that factors are quicker than whole matrices."""
    return rank <= _LOW * min(shape)


@dataclass(frozen=True, slots=True, eq=False)
class Iterate:
    """A product of factors.

    Attributes:
        left: Shape (n, r).
        right: Shape (d, r).
        values: The entries of the product that its problem goes by: all, of shape (n, d), or those
            observed, of shape (m,).
    """

    left: Matrix
    right: Matrix
    values: Matrix


def combined(share: float, one: Iterate, other_share: float, other: Iterate) -> Iterate:
    """The weighted sum of two iterates of one problem."""
    return Iterate(
        np.hstack((share * one.left, other_share * other.left)),
        np.hstack((one.right, other.right)),
        share * one.values + other_share * other.values,
    )


class Problem(Protocol):
    """A matrix that was observed in part, and how its iterates are kept.

    Attributes:
        weights: Of the entries that an iterate's values are: w.
        weighted: Of these entries, w E.
    """

    @property
    def weights(self) -> Matrix: ...  # noqa: D102

    @property
    def weighted(self) -> Matrix: ...  # noqa: D102

    @classmethod
    def of(cls, weights: Matrix, weighted: Matrix) -> Self:
        """From w (n, d), 0 where unobserved, and w E."""

    def iterate(self, left: Matrix, right: Matrix) -> Iterate:
        """The product of these factors."""

    def shrunk(
        self, point: Iterate, added: Matrix, threshold: float, rank: int, guess: int
    ) -> tuple[Matrix, Matrix]:
        """S of a point to which a matrix was added; ``added`` has its entries as values have.

        Args:
            point: The point.
            added: What was added to it.
            threshold: What all singular values lose, down to 0.
            rank: So many are kept at most, the largest.
            guess: How many are expected above the threshold.

        Returns:
            Factors (n, r) and (d, r).
        """

    def inner(self, one: Iterate, other: Iterate) -> float:
        """The inner product over all entries."""


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A problem whose iterates are whole matrices."""

    weights: Matrix
    weighted: Matrix

    @classmethod
    def of(cls, weights: Matrix, weighted: Matrix) -> Self:
        """As of every problem."""
        return cls(weights, weighted)

    def iterate(self, left: Matrix, right: Matrix) -> Iterate:
        """As of every problem."""
        return Iterate(left, right, left @ right.T)

    def shrunk(
        self, point: Iterate, added: Matrix, threshold: float, rank: int, guess: int
    ) -> tuple[Matrix, Matrix]:
        """By the Gram matrix of the shorter side."""
        return _shrink(point.values + added, threshold, rank, guess)

    def inner(self, one: Iterate, other: Iterate) -> float:
        """As of every problem."""
        return float(np.vdot(one.values, other.values))


@dataclass(frozen=True, slots=True, eq=False)
class Factored:
    """A problem whose iterates are factors, and observed entries.

    Attributes:
        shape: Of the matrix.
        rows: Shape (m,), of the observed entries.
        columns: Shape (m,), of the observed entries.
        weights: Shape (m,), w.
        weighted: Shape (m,), w E.
    """

    shape: tuple[int, int]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    weights: Matrix
    weighted: Matrix

    @classmethod
    def of(cls, weights: Matrix, weighted: Matrix) -> Self:
        """As of every problem."""
        rows, columns = np.nonzero(weights)
        n, d = weights.shape
        return cls((n, d), rows, columns, weights[rows, columns], weighted[rows, columns])

    def iterate(self, left: Matrix, right: Matrix) -> Iterate:
        """As of every problem."""
        values = np.einsum("mr,mr->m", left[self.rows], right[self.columns])
        return Iterate(left, right, values)

    def shrunk(
        self, point: Iterate, added: Matrix, threshold: float, rank: int, guess: int
    ) -> tuple[Matrix, Matrix]:
        """By products with vectors."""
        left, right = point.left, point.right
        if not (right.any() or added.any()):
            return left[:, :0], right[:, :0]
        sparse: Any = scipy.sparse.csr_array((added, (self.rows, self.columns)), shape=self.shape)
        across = sparse.T.tocsr()
        operator = LinearOperator(
            self.shape,
            matvec=lambda x: sparse @ x + left @ (right.T @ x),
            rmatvec=lambda x: across @ x + right @ (left.T @ x),
            dtype=np.float64,
        )
        vectors, values, others = leading(operator, rank)
        kept = values > threshold
        return vectors[:, kept], others[:, kept] * (values[kept] - threshold)

    def inner(self, one: Iterate, other: Iterate) -> float:
        """From triangular factors: of what is next to nothing, digits remain."""
        if one is not other:
            return float(np.vdot(one.left.T @ other.left, one.right.T @ other.right))
        left, right = (np.asarray(np.linalg.qr(f, mode="r")) for f in (one.left, one.right))
        return float(np.square(left @ right.T).sum())


def _shrink(matrix: Matrix, threshold: float, rank: int, guess: int) -> tuple[Matrix, Matrix]:
    """The singular values of a matrix, lessened by a threshold; those above it, at most ``rank``.

    Works on the Gram matrix of the shorter side, of which only the leading ``guess`` eigenvectors
    are computed if they turn out to be enough.

    Returns:
        Left (n, r) and right (d, r), of which the product is the result.
    """
    if len(matrix) > matrix.shape[1]:
        right, left = _shrink(matrix.T, threshold, rank, guess)
        return left, right
    size = len(matrix)
    gram = matrix @ matrix.T
    while True:
        guess = min(guess, rank)
        first = size - guess if guess <= _FEW * size else 0
        squares, vectors = scipy.linalg.eigh(
            gram, subset_by_index=(first, size - 1) if first else None, check_finite=False
        )
        values, vectors = np.sqrt(np.maximum(squares[-rank:], 0)), vectors[:, -rank:]
        if first == 0 or guess == rank or values[0] <= threshold:
            break
        guess *= 2
    kept = values > threshold
    vectors = vectors[:, kept]
    return vectors * (1 - threshold / values[kept]), matrix.T @ vectors
