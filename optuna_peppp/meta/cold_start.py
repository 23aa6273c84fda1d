"""The prior of a task's errors where there are no past tasks: what the space itself tells.

Configurations that are close in bits have similar errors, and more bits do no harm on average.

Notation: configuration j chooses c_a(j) under the name a; delta_a is the distance of two choices
and p_a the share of the name's kernel that varies with it; s is the spread, the standard deviation
of an error, and l the length scale. The errors are a Gaussian process over the product of choices,

    Cov(e_i, e_j) = s^2 prod_a K_a[c_a(i), c_a(j)],                                              (1)
    K_a[x, y] = 1 - p_a + p_a exp(-delta_a(x, y)^2 / (2 l^2)),                                   (2)

so that a name matters the more, the larger its share. Which names do is not known: models in
which all of them matter much, all but one, or one, are averaged; of very large spaces, there is
the first alone. With K_a = U_a diag(v_a) U_a', the covariance is a Kronecker product, and so are

    s^2 K_1 x K_2 x ... = s^2 (U_1 x U_2 x ...) diag(v_1 x v_2 x ...) (U_1 x U_2 x ...)',        (3)

its eigenvectors u and eigenvalues v, of which the leading k make the loadings; what they leave over
of every variance is noise,

    y_j = s (sqrt(v_1) u_1j, ..., sqrt(v_k) u_kj),   noise_j = noise + s^2 - ||y_j||^2.          (4)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.configurations.formats import Format
from optuna_peppp.configurations.notation import parse_format
from optuna_peppp.configurations.space import ConfigurationSpace, Value
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.prior import TaskPrior

_RANK: Final = 30
_LARGEST: Final = 6 * 10**7
"""Entries of the loadings of all models at most, of 8 bytes each."""

_VALUES: Final = 2000
"""Values of a name at most: their kernel is decomposed."""

_SPREAD: Final = 0.25
"""Standard deviation of an error, before anything is measured."""

_NOISE: Final = 0.02
_LENGTH: Final = 2.0
"""Length scale: in bits; for positive numbers, a factor of ten."""

_MUCH, _LITTLE = 0.5, 0.05
"""Shares of a name's kernel that vary."""

_GAIN: Final = 0.125
"""Mean error lost from the fewest bits of a format to the most."""

_SCALES: Final = np.array(list(product((0.5, 1.0, 2.0), (0.5, 1.0, 2.0, 4.0))))
_WEIGHTS: Final = np.exp(-0.5 * np.square(np.log(_SCALES) / 0.7).sum(axis=1))


def cold_prior(space: ConfigurationSpace) -> TaskPrior:
    """The prior of a task's errors under the d configurations of a space.

    Formats, which all values of a name must be, are compared by their coordinates: bits of
    exponent and mantissa, and how many numbers share a scale. Numbers are compared by their
    logarithm where all are positive; any two different texts are equally far apart.

    Raises:
        ValueError: A name has more than 2,000 values.
    """
    choices = space.choices
    for name, values in choices.items():
        if len(values) > _VALUES:
            raise ValueError(
                f"space must have at most {_VALUES:,} values of {name!r} where there are no past "
                f"tasks, since all pairs are compared; got {len(values):,}. Give it fewer"
            )
    distances = {name: _distances(values) for name, values in choices.items()}
    mean = np.array([0.5])
    for values in choices.values():
        mean = (mean[:, None] + _expected(values)).ravel()
    # All names matter much, all but one, or one: each combination once.
    much = {frozenset(choices)}
    several = 1 + 2 * len(choices)
    if several * _RANK * len(space) <= _LARGEST:
        much |= {frozenset(choices) - {name} for name in choices}
        much |= {frozenset({name}) for name in choices}
    shares = [
        {name: _MUCH if name in those else _LITTLE for name in choices}
        for those in sorted(much, key=lambda those: [name in those for name in choices])
        if those
    ]
    models = tuple(_model(mean, distances, share) for share in shares)
    weights = np.tile(_WEIGHTS / _WEIGHTS.sum() / len(models), (len(models), 1))
    return TaskPrior(models, _SCALES, weights)


def _distances(values: Sequence[Value]) -> NDArray[np.float64]:
    """Shape (c, c), squared distances between a name's choices, which its kernel compares."""
    points = _points(values)
    if points is None:
        return 2 * _LENGTH**2 * (1 - np.eye(len(values)))
    squared: NDArray[np.float64] = np.square(points[:, :, None] - points[:, None]).sum(axis=0)
    return squared


def _points(values: Sequence[Value]) -> NDArray[np.float64] | None:
    """Shape (q, c), coordinates of a name's choices; None where they are neither."""
    formats = _formats(values)
    if formats is not None:
        return np.array([fmt.coordinates for fmt in formats], dtype=np.float64).T
    if any(isinstance(value, str) for value in values):
        return None
    numbers = np.array([values], dtype=np.float64)
    if (numbers > 0).all():
        return _LENGTH * np.log10(numbers)
    return _LENGTH * (numbers / (np.ptp(numbers) or 1.0))


def _expected(values: Sequence[Value]) -> NDArray[np.float64]:
    """Shape (c,), what a choice adds to the mean error."""
    formats = _formats(values)
    if formats is None:
        return np.zeros(len(values))
    bits = np.array([fmt.bits for fmt in formats], dtype=np.float64)
    added: NDArray[np.float64] = _GAIN * (0.5 - (bits - bits.min()) / (np.ptp(bits) or 1.0))
    return added


def _formats(values: Sequence[Value]) -> list[Format] | None:
    """A name's choices as formats, None where one is none."""
    try:
        # What is no text is no format either.
        return [parse_format(value) for value in values]  # type: ignore[arg-type]
    except ValueError:
        return None


def _model(
    mean: NDArray[np.float64],
    distances: dict[str, NDArray[np.float64]],
    shares: dict[str, float],
) -> FactorModel:
    """The factor model of the kernel with these shares of each name."""
    eigenvalues, eigenvectors = np.ones(1), np.ones((1, 1))
    for name, squared in distances.items():
        kernel = 1 - shares[name] + shares[name] * np.exp(-0.5 * squared / _LENGTH**2)  # Eq. 2
        own_values, own_vectors = np.linalg.eigh(kernel)
        # Eq. 3, name by name; a leading one of all is a leading one of the names so far.
        eigenvalues = np.outer(eigenvalues, np.maximum(own_values, 0.0)).ravel()
        leading = np.argsort(-eigenvalues, kind="stable")[:_RANK]
        before, own = np.divmod(leading, len(own_values))
        eigenvectors = (eigenvectors[:, None, before] * own_vectors[None, :, own]).reshape(
            -1, len(leading)
        )
        eigenvalues = eigenvalues[leading]
    loadings = _SPREAD * np.sqrt(eigenvalues) * eigenvectors  # Eq. 4
    missing = np.maximum(_SPREAD**2 - np.einsum("jk,jk->j", loadings, loadings), 0.0)
    return FactorModel(mean, loadings, _NOISE**2 + missing)
