"""Completing a partial error matrix, its rank and shrinkage chosen by cross-validation.

Notation: E (n, d) errors, O the observed entries, o_ij = 1 where observed, else 0; E ~ A + L with A
main effects and L of low rank, by SoftImpute with the offset A. What was measured of a task tells
first how hard the task is, and only then how it differs from others: without A, SoftImpute shrinks
what it does not know towards an error of zero, which no task has. The main effects are

    A_ij = mean + r_i + c_j,   mean = sum_O E_ij / |O|,                                          (1)

of which r and c minimize sum_O (E_ij - A_ij)^2 + ||r||^2 + ||c||^2, by turns:

    r_i = sum_j o_ij (E_ij - mean - c_j) / (1 + sum_j o_ij),   c_j likewise.                     (2)

In fold q of the observed entries, rank k and shrinkage h leave the mean square q_kh of the held-out
residuals. With b the pair of the lowest mean over folds, the excess of another pair is

    mean_q (q_kh - q_b) +- std_q (q_kh - q_b) / sqrt(folds);                                     (3)

chosen is the smallest rank k whose excess, at its best h, is within its one standard error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from optuna_peppp.completion.proximal import decompose
from optuna_peppp.completion.softimpute import Completion, soft_impute

_FOLDS: Final = 5
_RANKS: Final = (2, 3, 4, 5)
"""Main effects alone have rank 2: a smaller one would lose the tasks' level or the profile."""

_SHRINKAGES: Final = 10.0 ** -np.arange(0, 2.5, 0.5)
"""Relative to the largest singular value of what the main effects leave over; at 1 they stand
alone."""

_LARGE: Final = 10_000
"""Entries of a matrix up to which the rank of L is not limited. In larger ones it is, to the
largest that is tried: quicker by far, and what was held out is predicted no worse."""

_TOLERANCE: Final = 1e-2
"""Cross-validation compares errors that differ by far more."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rank with its best shrinkage, in cross-validation.

    Attributes:
        rank: Dimensions that were kept.
        shrinkage: The shrinkage of the lowest error at this rank.
        error: Root mean square error on the entries held out.
        excess: Mean square error above the best candidate's.
        standard_error: Standard error of ``excess`` over the folds.
    """

    rank: int
    shrinkage: float
    error: float
    excess: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The rank and shrinkage that were chosen, and from what.

    Attributes:
        rank: The smallest rank whose error is within one standard error of the lowest.
        shrinkage: Its best shrinkage.
        observed: Number of observed entries.
        entries: Number of entries of the matrix.
        candidates: Every rank that was tried, ascending.
    """

    rank: int
    shrinkage: float
    observed: int
    entries: int
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        tried = ", ".join(f"{c.rank}: {c.error:.4f}" for c in self.candidates)
        return (
            f"rank {self.rank}, shrinkage {self.shrinkage:.3g}, by {_FOLDS}-fold "
            f"cross-validation on {self.observed} of {self.entries} entries "
            f"({self.observed / self.entries:.0%}). Root mean square error held out, by rank: "
            f"{tried}. Chosen is the smallest rank within one standard error of the best."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Completed:
    """A completed matrix.

    Attributes:
        matrix: Shape (n, d), the completion of all entries, observed ones included: of the
            chosen rank, then clipped to [0, 1].
        embeddings: Shape (d, k), right singular vectors of the completion, the strongest first.
        residuals: Shape (n, d), observed errors less those predicted when they were held out;
            NaN where unobserved.
        selection: How rank and shrinkage were chosen.
    """

    matrix: NDArray[np.float64]
    embeddings: NDArray[np.float64]
    residuals: NDArray[np.float64]
    selection: Selection

    @classmethod
    def of(
        cls, errors: ArrayLike, *, rank: int | None = None, shrinkage: float | None = None
    ) -> Self:
        """Completes a matrix.

        Args:
            errors: Shape (n, d), errors in [0, 1], NaN where unobserved; every row and column
                is observed somewhere.
            rank: The rank to judge the completion at; chosen from 2 to 5 where None.
            shrinkage: Of SoftImpute; chosen from five on a logarithmic scale where None.
        """
        given = np.asarray(errors, dtype=np.float64)
        possible = min(given.shape)
        ranks = tuple(dict.fromkeys(min(k, possible) for k in _RANKS)) if rank is None else (rank,)
        if shrinkage is None:
            residual = np.where(np.isnan(given), 0.0, given - main_effects(given))
            shrinkages = _SHRINKAGES * max(float(np.linalg.norm(residual, 2)), 1e-6)
        else:
            shrinkages = np.array([shrinkage])
        limit = max(ranks) if given.size > _LARGE else possible
        selection, residuals = _cross_validate(given, ranks, shrinkages, limit)
        rows, columns = _effects(given)
        low = soft_impute(
            given,
            shrinkage=selection.shrinkage,
            rank=limit,
            offset=rows[:, None] + columns,
            tol=1e-4,
        )
        left, values, right = _decomposed((rows, columns), low, selection.rank)
        embeddings = right[:, : selection.rank]
        matrix = left[:, : selection.rank] * values[: selection.rank] @ embeddings.T
        matrix = np.clip(matrix, 0.0, 1.0)
        return cls(matrix, embeddings, residuals, selection)


def main_effects(errors: ArrayLike) -> NDArray[np.float64]:
    """A mean for the matrix, a deviation for every row and one for every column, added up.

    Deviations are shrunk as by one more observation of zero (ridge regression with a penalty of
    1), so that a row or column observed once is not taken at its word.

    Args:
        errors: Shape (n, d), NaN where unobserved.

    Returns:
        Shape (n, d), without NaN.

    >>> main_effects([[0.2, 0.4], [0.2, np.nan]]).round(3)
    array([[0.238, 0.343],
           [0.21 , 0.314]])
    """
    rows, columns = _effects(np.asarray(errors, dtype=np.float64))
    effects: NDArray[np.float64] = rows[:, None] + columns
    return effects


def _effects(errors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Parts of A (Eq. 1): mean + r, shape (n,), and c, shape (d,)."""
    unobserved = np.isnan(errors)
    mean = errors[~unobserved].mean()
    centred = np.where(unobserved, 0.0, errors - mean)
    observed = csr_array(~unobserved, dtype=np.float64)
    across = observed.T.tocsr()
    per_row, per_column = 1 + observed.sum(axis=1), 1 + observed.sum(axis=0)
    sums_of_rows, sums_of_columns = centred.sum(axis=1), centred.sum(axis=0)
    rows, columns = np.zeros(errors.shape[0]), np.zeros(errors.shape[1])
    for _ in range(_SWEEPS):
        before = columns
        # Eq. 2.
        rows = (sums_of_rows - observed @ columns) / per_row
        columns = (sums_of_columns - across @ rows) / per_column
        if np.abs(columns - before).max() < _STILL:
            break
    return mean + rows, columns


_SWEEPS: Final = 1000
_STILL: Final = 1e-10


def _decomposed(
    effects: tuple[NDArray[np.float64], NDArray[np.float64]], low: Completion, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The singular value decomposition of A + L, vectors as columns; ``count`` values at least."""
    rows, columns = effects
    ones = np.ones_like(rows), np.ones_like(columns)
    # Vectors of singular value zero make up for what L lacks to ``count``.
    lacking = max(count - 2 - len(low.singular_values), 0)
    left, right = (np.zeros((len(side), lacking)) for side in effects)
    return decompose(
        np.column_stack((rows, ones[0], low.left * low.singular_values, left)),
        np.column_stack((ones[1], columns, low.right, right)),
    )


def _cross_validate(
    errors: NDArray[np.float64], ranks: tuple[int, ...], shrinkages: NDArray[np.float64], limit: int
) -> tuple[Selection, NDArray[np.float64]]:
    """The selection, and out-of-fold residuals (n, d) of what was selected."""
    entries = np.argwhere(~np.isnan(errors))
    entries = np.random.default_rng(0).permutation(entries)
    folds, count = min(_FOLDS, len(entries)), max(ranks)
    residuals = np.empty((len(shrinkages), len(entries), len(ranks)))
    scores = np.empty((folds, len(shrinkages), len(ranks)))
    trainings = [errors.copy() for _ in range(folds)]
    for fold, training in enumerate(trainings):
        training[*entries[fold::folds].T] = np.nan
    effects = [_effects(training) for training in trainings]
    found: list[Completion | None] = [None] * folds
    for i, shrinkage in enumerate(shrinkages.tolist()):
        for fold, (training, (of_rows, of_columns)) in enumerate(
            zip(trainings, effects, strict=True)
        ):
            # Each started from the one before.
            found[fold] = low = soft_impute(
                training,
                shrinkage=shrinkage,
                rank=limit,
                offset=of_rows[:, None] + of_columns,
                tol=_TOLERANCE,
                start=found[fold],
            )
            left, values, right = _decomposed((of_rows, of_columns), low, count)
            rows, columns = entries[fold::folds].T
            terms = left[rows, :count] * values[:count] * right[columns, :count]
            predicted = np.clip(terms.cumsum(axis=1)[:, np.array(ranks) - 1], 0.0, 1.0)
            held_out = errors[rows, columns, None] - predicted
            residuals[i, fold::folds] = held_out
            scores[fold, i] = np.square(held_out).mean(axis=0)
        # Less shrinkage, which takes longest, is tried as long as it helps some rank.
        if i and (scores[:, i].mean(axis=0) > scores[:, i - 1].mean(axis=0)).all():
            scores = scores[:, : i + 1]
            break
    means = scores.mean(axis=0)
    best = np.unravel_index(means.argmin(), means.shape)
    excess = scores - scores[:, best[0], best[1]][:, None, None]  # Eq. 3
    spread = excess.std(axis=0, ddof=1) / np.sqrt(folds)
    chosen = means.argmin(axis=0)
    candidates = tuple(
        Candidate(
            rank,
            float(shrinkages[i]),
            float(np.sqrt(means[i, j])),
            float(excess[:, i, j].mean()),
            float(spread[i, j]),
        )
        for j, (rank, i) in enumerate(zip(ranks, chosen.tolist(), strict=True))
    )
    position = next(j for j, c in enumerate(candidates) if c.excess <= c.standard_error)
    picked = candidates[position]
    selected = np.full(errors.shape, np.nan)
    selected[*entries.T] = residuals[chosen[position], :, position]
    return Selection(picked.rank, picked.shrinkage, len(entries), errors.size, candidates), selected
