"""Measurements: what makes a number an error, which repeats agree, and how they are averaged."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.arrays import refuse

ROUNDING: Final = 1e-6
"""An error that is less than 0 or more than 1 by no more than this is rounding noise, as of
accuracies that were added up batch by batch: it counts as 0 or 1."""

DISAGREEMENT: Final = 0.5
"""How far errors of one task and configuration may lie apart to be repeats, and be averaged."""


def as_error(value: float) -> float | None:
    """The error in [0, 1] that a value stands for, None where it is no error.

    >>> as_error(0.25), as_error(-2e-16), as_error(54.0)
    (0.25, 0.0, None)
    """
    error = float(as_errors([value])[0])
    return None if isnan(error) else error


def as_errors(values: ArrayLike) -> NDArray[np.float64]:
    """The errors in [0, 1] that values, of any shape, stand for; NaN where one is no error.

    >>> as_errors([0.25, -2e-16, 54.0])
    array([0.25, 0.  ,  nan])
    """
    given = np.asarray(values, dtype=np.float64)
    sound = (given >= -ROUNDING) & (given <= 1 + ROUNDING)
    return np.where(sound, np.clip(given, 0.0, 1.0), np.nan)


def check_errors(
    errors: NDArray[np.float64], *, partial: bool = False, rounding: float = 0.0
) -> None:
    """Refuses errors that are none.

    Args:
        errors: Of any shape.
        partial: Whether some may be unobserved, NaN.
        rounding: How far they may leave [0, 1].

    Raises:
        ValueError: An error is not in [0, 1]; the message names the first.
    """
    valid = (errors >= -rounding) & (errors <= 1 + rounding)
    if partial:
        valid |= np.isnan(errors)
    message = "errors must lie in [0, 1], the ratio of misclassified images; errors"
    refuse(message, errors, ~valid)


def check_measurements(
    indices: ArrayLike, errors: ArrayLike, d: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Measured configurations and their errors as arrays, both of shape (m,).

    Errors that leave [0, 1] by rounding noise are put back (``ROUNDING``).

    Raises:
        ValueError: A shape is wrong, an index is out of range or an error is not in [0, 1].
    """
    measured, found = np.asarray(indices), np.asarray(errors, dtype=np.float64)
    if measured.size == 0:
        measured = measured.astype(np.intp)
    if measured.ndim != 1 or measured.shape != found.shape or measured.dtype.kind not in "iu":
        raise ValueError(
            "indices and errors must be two vectors of one length, indices of integers; got "
            f"shapes {measured.shape} and {found.shape}, indices of {measured.dtype}"
        )
    bad = np.flatnonzero((measured < 0) | (measured >= d))
    if bad.size:
        raise ValueError(f"indices must be between 0 and {d - 1}; got {measured[bad[0]]}")
    check_errors(found, rounding=ROUNDING)
    return measured.astype(np.intp), np.clip(found, 0.0, 1.0)


def validate_test_images(test_images: int | None) -> None:
    """Refuses a number of test images that none can be.

    Raises:
        ValueError: It is not positive and finite.
    """
    if test_images is not None and not 0 < test_images < np.inf:
        raise ValueError(
            "test_images must be a positive number, or None where it is not known; "
            f"got {test_images}"
        )


def task_test_images(test_images: ArrayLike, n: int) -> NDArray[np.float64]:
    """How many images the errors of each of n tasks were counted on, shape (n,).

    Raises:
        ValueError: It is not one positive number, or one for each task.
    """
    images = np.asarray(test_images, dtype=np.float64)
    if images.shape not in ((), (n,)) or not ((images >= 1) & (images < np.inf)).all():
        raise ValueError(
            f"test_images must be one positive number, or one for each of the {n} tasks; "
            f"got {test_images!r}"
        )
    return np.broadcast_to(images, n)


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
    measured = np.asarray(indices, dtype=np.intp)
    counts = np.bincount(measured, minlength=d)
    sums = np.bincount(measured, weights=np.asarray(values, dtype=np.float64), minlength=d)
    means: NDArray[np.float64] = sums / np.where(counts, counts, np.nan)
    return means


def disagree(errors: ArrayLike) -> NDArray[np.bool_]:
    """Where repeats lie too far apart to be averaged.

    Args:
        errors: Shape (m, ...), m repeats; NaN where there is none.

    >>> disagree([[0.1, 0.2], [0.3, 0.9]])
    array([False,  True])
    """
    repeats = np.asarray(errors, dtype=np.float64)
    return np.asarray(np.fmax.reduce(repeats) - np.fmin.reduce(repeats) > DISAGREEMENT)


def mean_of_known(values: Iterable[float]) -> float:
    """The mean of the numbers that are known; NaN where none is.

    >>> mean_of_known([0.25, float("nan"), 0.75])
    0.5
    """
    known = [value for value in values if not isnan(value)]
    return fmean(known) if known else float("nan")


def means_of_known(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (d,), the mean of what is known in every column of (m, d); NaN where nothing is."""
    counts = np.count_nonzero(~np.isnan(rows), axis=0)
    return np.asarray(np.nansum(rows, axis=0) / np.where(counts, counts, np.nan))
