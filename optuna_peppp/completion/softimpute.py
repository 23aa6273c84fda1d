"""SoftImpute: a low-rank completion of a partly observed matrix, plain and weighted.

Notation: E (n, d) holds the errors, B the offset, w the weights, divided by the largest (0 where
unobserved), Z (n, d) the low-rank part of the completion B + Z. Z minimizes

    1/2 sum_ij w_ij (B_ij + Z_ij - E_ij)^2 + shrinkage ||Z||_*          (paper, Appendix B),     (1)

with ||.||_* the sum of the singular values. How it is found, and what certifies it, is in
:mod:`optuna_peppp.completion.proximal`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.arrays import refuse
from optuna_peppp.completion.proximal import decompose, solve

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """A completed matrix, and how well it solves its problem.

    Attributes:
        matrix: Shape (n, d), the solution and the offset, clipped to [0, 1].
        left: Shape (n, r), orthonormal columns: the solution before clipping and without the
            offset is ``left * singular_values @ right.T``.
        singular_values: Shape (r,), positive, the largest first; r may be 0.
        right: Shape (d, r), orthonormal columns.
        shrinkage: That of the problem.
        iterations: Proximal gradient steps taken.
        gap: How far the solution before clipping is from optimal: the Frobenius norm of a
            subgradient of the objective there, divided by ``shrinkage``. 0 at a minimum; where
            ``rank`` binds, at a stationary point among the matrices of that rank, of which there
            may be several.
        converged: Whether the gap came down to ``tol`` within ``max_iterations``.
    """

    matrix: Matrix
    left: Matrix
    singular_values: Matrix
    right: Matrix
    shrinkage: float
    iterations: int
    gap: float
    converged: bool


def soft_impute(
    errors: ArrayLike,
    *,
    shrinkage: float,
    rank: int | None = None,
    weights: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    tol: float = 1e-6,
    max_iterations: int = 2500,
    start: Completion | None = None,
) -> Completion:
    """Completes a matrix by SoftImpute (paper, Algorithm 1; weighted: section 3.1).

    Args:
        errors: Shape (n, d), in [0, 1]; NaN = unobserved.
        shrinkage: Positive. What every singular value loses in a fully observed matrix.
        rank: The largest rank of every iterate, from 1 to min(n, d). Default: no limit.
        weights: Shape (n, d), positive where observed and ignored elsewhere, for instance
            inverse sampling probabilities. They are divided by the largest among the observed.
            Default: 1.
        offset: Shape (n, d), finite: a part of the errors that is known without low rank, such
            as their mean. What it leaves over is completed, and it is added to ``matrix``, not
            to the factors. Default: 0.
        tol: The iteration stops when :attr:`Completion.gap` is at most this.
        max_iterations: The iteration stops after so many; ``converged`` is then false.
        start: A completion of a similar matrix to start from. Default: a few sweeps of
            alternating least squares.

    Raises:
        ValueError: A shape is wrong, nothing was observed, an error is outside [0, 1], a weight
            of an observed entry is not positive and finite, an offset is not finite, or a
            number is out of range.

    >>> errors = [[0.2, 0.4], [0.3, 0.6], [0.4, float("nan")]]
    >>> soft_impute(errors, shrinkage=1e-3, rank=1).matrix.round(2)
    array([[0.2 , 0.4 ],
           [0.3 , 0.6 ],
           [0.4 , 0.79]])
    """
    target = _errors(errors)
    smallest = min(target.shape)
    if not (math.isfinite(shrinkage) and shrinkage > 0):
        raise ValueError(
            f"shrinkage must be positive and finite; got {shrinkage}. At 0 nothing says what an "
            "unobserved entry is; take a small one, such as 0.001"
        )
    if rank is not None and not 1 <= rank <= smallest:
        raise ValueError(f"rank must be between 1 and min(n, d) = {smallest}; got {rank}")
    if not tol > 0:
        raise ValueError(f"tol must be positive; got {tol}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1; got {max_iterations}")
    if start is not None and start.matrix.shape != target.shape:
        raise ValueError(
            f"start must complete a matrix of the shape of errors, {target.shape}; got "
            f"{start.matrix.shape}"
        )
    importance = _weights(weights, target)
    base = _offset(offset, target)
    weighted = importance * np.where(np.isnan(target), 0, target - base)
    left, right, iterations, gap = solve(
        importance,
        weighted,
        shrinkage,
        rank=rank or smallest,
        tol=tol,
        max_iterations=max_iterations,
        start=None if start is None else (start.left * start.singular_values, start.right),
    )
    return Completion(
        np.clip(base + left @ right.T, 0, 1),
        *decompose(left, right),
        shrinkage=shrinkage,
        iterations=iterations,
        gap=gap,
        converged=gap <= tol,
    )


def soft_impute_path(
    errors: ArrayLike,
    shrinkages: Iterable[float],
    *,
    rank: int | None = None,
    weights: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    tol: float = 1e-6,
    max_iterations: int = 2500,
) -> list[Completion]:
    """Completions by :func:`soft_impute` for decreasing shrinkages, each started from the last.

    Args:
        errors: Shape (n, d), in [0, 1]; NaN = unobserved.
        shrinkages: Positive, strictly decreasing.
        rank: As in :func:`soft_impute`.
        weights: As in :func:`soft_impute`.
        offset: As in :func:`soft_impute`.
        tol: As in :func:`soft_impute`.
        max_iterations: For each completion.

    Raises:
        ValueError: The shrinkages do not decrease, or as in :func:`soft_impute`.
    """
    path: list[Completion] = []
    for shrinkage in shrinkages:
        last = path[-1] if path else None
        if last is not None and not shrinkage < last.shrinkage:
            raise ValueError(
                f"shrinkages must decrease; got {shrinkage} after {last.shrinkage}. "
                "Sort them, the largest first"
            )
        path.append(
            soft_impute(
                errors,
                shrinkage=shrinkage,
                rank=rank,
                weights=weights,
                offset=offset,
                tol=tol,
                max_iterations=max_iterations,
                start=last,
            )
        )
    return path


def _errors(errors: ArrayLike) -> Matrix:
    target = np.asarray(errors, dtype=np.float64)
    if target.ndim != 2 or 0 in target.shape:
        raise ValueError(
            f"errors must be a matrix (tasks, configurations), not empty; got shape {target.shape}"
        )
    observed = ~np.isnan(target)
    if not observed.any():
        raise ValueError("errors must hold at least one observed entry; all are NaN")
    refuse("errors must lie in [0, 1]; errors", target, observed & ~((target >= 0) & (target <= 1)))
    return target


def _weights(weights: ArrayLike | None, target: Matrix) -> Matrix:
    """Weights of at most 1, zero where nothing was observed."""
    observed = ~np.isnan(target)
    if weights is None:
        return observed.astype(np.float64)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != target.shape:
        raise ValueError(
            f"weights must have the shape of errors, {target.shape}; got {given.shape}"
        )
    bad = observed & ~((given > 0) & (given < np.inf))
    refuse("weights must be positive and finite where errors are observed; weights", given, bad)
    usable: Matrix = np.where(observed, given, 0.0) / given[observed].max()
    return usable


def _offset(offset: ArrayLike | None, target: Matrix) -> Matrix:
    if offset is None:
        return np.zeros_like(target)
    given = np.asarray(offset, dtype=np.float64)
    if given.shape != target.shape:
        raise ValueError(f"offset must have the shape of errors, {target.shape}; got {given.shape}")
    refuse("offset must be finite; offset", given, ~np.isfinite(given))
    return given
