"""The paper's embeddings of configurations (Section 3.2), and what they leave unexplained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.completion.cross_validation import Completed

_RANK: Final = 5
"""Dimensions of the embeddings: the paper's. Its text says 3 for new tasks and 5 for meta-training;
its authors' notebooks take 5 for both, and so do its figures: that QR-MF matches ED-MF (Section
4.2) holds at 5 only. At 5 ED-MF measures better, too: on five tables the geometric mean of the
hypervolume regret after ten measurements is 0.121 at rank 2, 0.066 at 3, 0.053 at 4, 0.047 at 5 and
0.052 at 6."""

_PRIOR_RESIDUALS: Final = 2
"""Residuals of all configurations that stand for those a configuration lacks."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Embeddings of d configurations, from n tasks.

    Attributes:
        embeddings: Shape (d, k), orthonormal columns, the strongest first; the largest entry of
            every column is positive.
        noise: Shape (d,), standard deviation of what they leave unexplained.
        selection: How rank and shrinkage were chosen, in words.
    """

    embeddings: NDArray[np.float64]
    noise: NDArray[np.float64]
    selection: str

    @classmethod
    def of(
        cls, errors: NDArray[np.float64], *, rank: int | None, shrinkage: float | None = None
    ) -> Self:
        """By truncated SVD, of the completed matrix where something is missing.

        Args:
            errors: Shape (n, d), NaN where unobserved; every row and column is observed somewhere.
            rank: By default the paper's, as far as there are tasks and configurations.
            shrinkage: Of SoftImpute, by default chosen; without effect on complete rows.
        """
        reason = "as in the paper's runs" if rank is None else "as asked for"
        rank = max(1, min(_RANK, min(errors.shape) - 1)) if rank is None else rank
        selection = f"rank {rank}, {reason}."
        if not np.isnan(errors).any():
            embeddings = np.linalg.svd(errors, full_matrices=False)[2][:rank].T
            noise = _noise(errors, embeddings)
        else:
            completed = Completed.of(errors, rank=rank, shrinkage=shrinkage)
            selection = str(completed.selection)
            embeddings = completed.embeddings
            noise = _noise_held_out(completed.residuals)
        # The SVD leaves signs open.
        largest = np.abs(embeddings).argmax(axis=0)
        embeddings = embeddings * np.sign(embeddings[largest, np.arange(rank)])
        return cls(embeddings, noise, selection)


def _noise(errors: NDArray[np.float64], embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (d,), the standard deviation of what a fit to complete rows leaves over."""
    (n, d), k = errors.shape, embeddings.shape[1]
    residuals = errors - errors @ embeddings @ embeddings.T
    # Of n d entries the fit spends k (n + d - k); (n - k)(d - k) remain, over d columns.
    freedom = (n - k) * (d - k) / d
    if freedom > 0:
        noise: NDArray[np.float64] = np.sqrt(np.square(residuals).sum(axis=0) / freedom)
        return noise
    # A full rank explains everything and tells nothing: stay on the safe side.
    return np.full(d, errors.std())


def _noise_held_out(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (d,), the standard deviation of held-out residuals (n, d), NaN where there is none.

    A configuration was measured a few times only: its own residuals are joined by the mean of
    all.
    """
    squares = np.square(residuals)
    counts = np.count_nonzero(~np.isnan(squares), axis=0)
    pooled = np.nanmean(squares)
    noise: NDArray[np.float64] = np.sqrt(
        (np.nansum(squares, axis=0) + _PRIOR_RESIDUALS * pooled) / (counts + _PRIOR_RESIDUALS)
    )
    return noise
