"""What an iteration of the solver computes, of whole matrices or of factors and observed entries.

Notation: that of :mod:`optuna_peppp.completion.proximal`. An iterate is a product of factors of
rank r, and G is zero where nothing was observed. So where few singular values are wanted of a large
matrix, those of Y - t G(Y) are found from products with vectors (Lanczos), and inner products from
the factors: no entry is computed that was not observed. A whole matrix is decomposed by the Gram
matrix of its shorter side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol, Self

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


class Problem(Protocol):
    """A matrix that was observed in part."""

    @classmethod
    def of(cls, weights: Matrix, weighted: Matrix) -> Self:
        """From w (n, d), zero where unobserved, and w E."""

    def at(self, left: Matrix, right: Matrix) -> Point:
        """The point Y of factors (n, r) and (d, r)."""


class Point(Protocol):
    """A point Y, with its gradient G(Y)."""

    def descended(
        self, step: float, shrinkage: float, rank: int, guess: int
    ) -> tuple[Matrix, Matrix]:
        """A proximal step (Eq. 3): its factors (n, r) and (d, r), r at most ``rank``.

        ``guess`` is how many singular values are expected above the threshold.
        """

    def to(self, left: Matrix, right: Matrix) -> Move:
        """The way from here to the product of these factors."""


class Move(Protocol):
    """The way Z+ - Y.

    Attributes:
        square: The square of its norm.
        curvature: That with weights w.
    """

    square: float
    curvature: float

    def subgradient(self, step: float) -> float:
        """The norm of Eq. 5."""

    def inner(self, left: Matrix, right: Matrix) -> float:
        """Its inner product with the product of factors."""


def less(
    left: Matrix, right: Matrix, other_left: Matrix, other_right: Matrix
) -> tuple[Matrix, Matrix]:
    """Factors of one product of factors less another."""
    return np.hstack((left, -other_left)), np.hstack((right, other_right))


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A problem whose iterates are whole matrices."""

    weights: Matrix
    weighted: Matrix

    @classmethod
    def of(cls, weights: Matrix, weighted: Matrix) -> Self:
        return cls(weights, weighted)

    def at(self, left: Matrix, right: Matrix) -> Point:
        here = left @ right.T
        return DensePoint(self.weights, here, self.weights * here - self.weighted)


@dataclass(frozen=True, slots=True, eq=False)
class DensePoint:
    """A point that is a whole matrix, and its gradient."""

    weights: Matrix
    here: Matrix
    gradient: Matrix

    def descended(
        self, step: float, shrinkage: float, rank: int, guess: int
    ) -> tuple[Matrix, Matrix]:
        return _shrink(self.here - step * self.gradient, shrinkage * step, rank, guess)

    def to(self, left: Matrix, right: Matrix) -> Move:
        move = left @ right.T - self.here
        bend = self.weights * move
        return DenseMove(move, bend, float(np.vdot(move, move)), float(np.vdot(move, bend)))


@dataclass(slots=True, eq=False)
class DenseMove:
    """A way that is a whole matrix."""

    move: Matrix
    bend: Matrix
    square: float
    curvature: float

    def subgradient(self, step: float) -> float:
        return float(np.linalg.norm(self.bend - self.move / step))

    def inner(self, left: Matrix, right: Matrix) -> float:
        return float(np.vdot(self.move, left @ right.T))


@dataclass(frozen=True, slots=True, eq=False)
class Factored:
    """A problem whose iterates are factors.

    Attributes:
        shape: Of the matrix.
        rows: Shape (m,), of the observed entries, row by row.
        columns: Shape (m,), of the observed entries.
        weights: Shape (m,), w.
        weighted: Shape (m,), w E.
    """

    shape: tuple[int, ...]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    weights: Matrix
    weighted: Matrix

    @classmethod
    def of(cls, weights: Matrix, weighted: Matrix) -> Self:
        rows, columns = np.nonzero(weights)
        return cls(weights.shape, rows, columns, weights[rows, columns], weighted[rows, columns])

    def at(self, left: Matrix, right: Matrix) -> Point:
        gradient = self.weights * self.observed(left, right) - self.weighted
        return FactoredPoint(self, left, right, gradient)

    def observed(self, left: Matrix, right: Matrix) -> Matrix:
        """Shape (m,), the observed entries of a product of factors."""
        found: Matrix = np.einsum("mr,mr->m", left[self.rows], right[self.columns])
        return found


@dataclass(frozen=True, slots=True, eq=False)
class FactoredPoint:
    """A point of factors, and its gradient (m,)."""

    problem: Factored
    left: Matrix
    right: Matrix
    gradient: Matrix

    def descended(
        self, step: float, shrinkage: float, rank: int, guess: int
    ) -> tuple[Matrix, Matrix]:
        shape, rows, columns = self.problem.shape, self.problem.rows, self.problem.columns
        sparse = scipy.sparse.csr_array((-step * self.gradient, (rows, columns)), shape=shape)
        across = sparse.T.tocsr()
        left, right, threshold = self.left, self.right, shrinkage * step
        if not (right.any() or self.gradient.any()):
            return left[:, :0], right[:, :0]
        operator = LinearOperator(
            shape,
            matvec=lambda x: sparse @ x + left @ (right.T @ x),
            rmatvec=lambda x: across @ x + right @ (left.T @ x),
            dtype=np.float64,
        )
        vectors, values, others = leading(operator, rank)
        kept = values > threshold
        return vectors[:, kept], others[:, kept] * (values[kept] - threshold)

    def to(self, left: Matrix, right: Matrix) -> Move:
        factors = less(left, right, self.left, self.right)
        move = self.problem.observed(*factors)
        bend = self.problem.weights * move
        square = np.square(np.linalg.qr(factors[0], "r") @ np.linalg.qr(factors[1], "r").T).sum()
        return FactoredMove(*factors, move, bend, float(square), float(move @ bend))


@dataclass(slots=True, eq=False)
class FactoredMove:
    """A way of factors, and what it does to observed entries."""

    left: Matrix
    right: Matrix
    move: Matrix
    bend: Matrix
    square: float
    curvature: float

    def subgradient(self, step: float) -> float:
        elsewhere = max(self.square - float(self.move @ self.move), 0.0)
        here = self.bend - self.move / step
        return math.sqrt(float(here @ here) + elsewhere / step**2)

    def inner(self, left: Matrix, right: Matrix) -> float:
        return float(np.vdot(self.left.T @ left, self.right.T @ right))


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
