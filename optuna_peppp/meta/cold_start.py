"""The prior of a task's errors where there are no past tasks: what the space itself tells.

Configurations that are close in bits have similar errors, and more bits do no harm on average. The
errors are a Gaussian process over the product of the choices,

    Cov(e_i, e_j) = spread^2 * product over names of (1 - share + share * exp(-distance^2 / 2 l^2)),

so that a name matters the more, the larger its share. Which names do is not known: models in
which all of them matter much, all but one, or one, are averaged; of very large spaces, there is
the first alone. The covariance is a Kronecker product, whose leading eigenvectors are the
loadings; what they leave over is noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.space import FORMAT_NAMES, ConfigurationSpace, Value
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

    Formats are compared by their bits of exponent and mantissa, numbers by their logarithm where
    all are positive; any two different texts are equally far apart.

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
    distances = {name: _distances(name, values) for name, values in choices.items()}
    mean = np.array([0.5])
    for name, values in choices.items():
        mean = (mean[:, None] + _expected(name, values)).ravel()
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


def _distances(name: str, values: Sequence[Value]) -> NDArray[np.float64]:
    """Shape (c, c), squared distances between a name's choices, which its kernel compares."""
    if any(isinstance(value, str) for value in values) and name not in FORMAT_NAMES:
        return 2 * _LENGTH**2 * (1 - np.eye(len(values)))
    points = _points(name, values)
    squared: NDArray[np.float64] = np.square(points[:, :, None] - points[:, None]).sum(axis=0)
    return squared


def _points(name: str, values: Sequence[Value]) -> NDArray[np.float64]:
    """Shape (q, c), coordinates of a name's choices that are formats or numbers."""
    if name in FORMAT_NAMES:
        formats = [FloatFormat.parse(str(value)) for value in values]
        bits = [[f.exponent for f in formats], [f.mantissa for f in formats]]
        return np.array(bits, dtype=np.float64)
    numbers = np.array([values], dtype=np.float64)
    if (numbers > 0).all():
        return _LENGTH * np.log10(numbers)
    return _LENGTH * (numbers / (np.ptp(numbers) or 1.0))


def _expected(name: str, values: Sequence[Value]) -> NDArray[np.float64]:
    """Shape (c,), what a choice adds to the mean error."""
    if name not in FORMAT_NAMES:
        return np.zeros(len(values))
    bits = np.array([FloatFormat.parse(str(value)).bits for value in values], dtype=np.float64)
    added: NDArray[np.float64] = _GAIN * (0.5 - (bits - bits.min()) / (np.ptp(bits) or 1.0))
    return added


def _model(
    mean: NDArray[np.float64],
    distances: dict[str, NDArray[np.float64]],
    shares: dict[str, float],
) -> FactorModel:
    """The factor model of the kernel with these shares of each name."""
    values, vectors = np.ones(1), np.ones((1, 1))
    for name, squared in distances.items():
        kernel = 1 - shares[name] + shares[name] * np.exp(-0.5 * squared / _LENGTH**2)
        own_values, own_vectors = np.linalg.eigh(kernel)
        values = np.outer(values, np.maximum(own_values, 0.0)).ravel()
        # The eigenvectors of a Kronecker product are those of its factors; only the leading ones.
        kept = np.argsort(-values, kind="stable")[:_RANK]
        before, own = np.divmod(kept, len(own_values))
        vectors = (vectors[:, None, before] * own_vectors[None, :, own]).reshape(-1, len(kept))
        values = values[kept]
    vectors *= _SPREAD * np.sqrt(values)
    missing = np.maximum(_SPREAD**2 - np.einsum("jk,jk->j", vectors, vectors), 0.0)
    return FactorModel(mean, vectors, _NOISE**2 + missing)
