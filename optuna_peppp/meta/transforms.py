"""The scales on which errors are modelled: as they are, or as log odds."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

Transform = Literal["identity", "logit"]
"""How errors enter the model."""

_EDGE: Final = 1e-3
"""Errors closer to 0 or 1 count as this close to it, under the logit."""


def transformed(errors: ArrayLike, transform: Transform) -> NDArray[np.float64]:
    """Errors in [0, 1], of any shape, as the model sees them."""
    values = np.asarray(errors, dtype=np.float64)
    if transform == "identity":
        return values
    return np.asarray(logit(np.clip(values, _EDGE, 1 - _EDGE)), dtype=np.float64)


def untransformed(values: NDArray[np.float64], transform: Transform) -> NDArray[np.float64]:
    """Errors, of any shape, from the units of the transform; not clipped."""
    return values if transform == "identity" else np.asarray(expit(values), dtype=np.float64)


def slope(errors: ArrayLike, transform: Transform) -> NDArray[np.float64]:
    """Derivative of the transformed error by the error, at errors of any shape."""
    values = np.asarray(errors, dtype=np.float64)
    if transform == "identity":
        return np.ones_like(values)
    inside = np.clip(values, _EDGE, 1 - _EDGE)
    steepness: NDArray[np.float64] = 1 / (inside * (1 - inside))
    return steepness


def binomial_variance(
    errors: ArrayLike, test_images: ArrayLike | None, transform: Transform
) -> NDArray[np.float64]:
    """Variance of the transformed error from counting on so many test images.

    One image right and one wrong are added, so that no error is certain.

    Args:
        errors: Of any shape, in [0, 1].
        test_images: Broadcasts against ``errors``; None where unknown, which gives 0.
        transform: The scale of the answer.
    """
    values = np.asarray(errors, dtype=np.float64)
    if test_images is None:
        return np.zeros_like(values)
    images = np.asarray(test_images, dtype=np.float64)
    share = (values * images + 1) / (images + 2)
    variance: NDArray[np.float64] = share * (1 - share) / images * slope(share, transform) ** 2
    return variance
