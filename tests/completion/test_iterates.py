"""Iterates that keep to factors are those of whole matrices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from optuna_peppp.completion.iterates import Dense, Factored, Iterate, combined, is_low
from optuna_peppp.completion.softimpute import soft_impute

Matrix = NDArray[np.float64]


def problems(n: int, d: int, seed: int = 0) -> tuple[Dense, Factored, NDArray[np.bool_]]:
    """The same weighted problem, of which a fifth was observed."""
    rng = np.random.default_rng(seed)
    observed = rng.random((n, d)) < 0.2
    weights = np.where(observed, rng.uniform(0.2, 1, (n, d)), 0.0)
    weighted = weights * rng.random((n, d))
    return Dense.of(weights, weighted), Factored.of(weights, weighted), observed


def factors(n: int, d: int, rank: int, seed: int) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, rank)), rng.normal(size=(d, rank))


def errors_of(n: int, d: int) -> Matrix:
    rng = np.random.default_rng(1)
    errors = rng.random((n, 3)) @ rng.random((3, d)) / 3 + 0.02 * rng.normal(size=(n, d))
    errors[rng.random((n, d)) > 0.3] = np.nan
    return np.clip(errors, 0, 1)


@pytest.mark.parametrize("shape", [(60, 50), (50, 60)])
def test_both_descend_to_the_same_point(shape: tuple[int, int]) -> None:
    dense, factored, observed = problems(*shape)
    point = factors(*shape, 3, 1)
    ours, whole = factored.iterate(*point), dense.iterate(*point)
    assert ours.values == pytest.approx(whole.values[observed])
    assert factored.weights * ours.values - factored.weighted == pytest.approx(
        (dense.weights * whole.values - dense.weighted)[observed]
    )
    added = np.zeros(shape)
    added[observed] = np.random.default_rng(2).normal(size=observed.sum())
    u, s, vt = np.linalg.svd(whole.values + added)
    threshold = float(s[4] + s[3]) / 2
    expected = u[:, :4] * (s[:4] - threshold) @ vt[:4]
    for kind, point_of, move in ((dense, whole, added), (factored, ours, added[observed])):
        left, right = kind.shrunk(point_of, move, threshold, 8, 6)
        assert left.shape == (shape[0], 4)
        assert left @ right.T == pytest.approx(expected, abs=1e-9)
        left, right = kind.shrunk(point_of, move, threshold, 2, 6)
        assert left @ right.T == pytest.approx(u[:, :2] * (s[:2] - threshold) @ vt[:2], abs=1e-9)


def test_inner_products_are_over_all_entries() -> None:
    dense, factored, _ = problems(40, 30)
    one, other = factors(40, 30, 2, 1), factors(40, 30, 4, 2)

    def products(kind: Dense | Factored) -> list[float]:
        first, second = kind.iterate(*one), kind.iterate(*other)
        both: Iterate = combined(2.0, first, -1.0, second)
        return [kind.inner(both, both), kind.inner(both, first)]

    whole = 2 * one[0] @ one[1].T - other[0] @ other[1].T
    expected = [float((whole**2).sum()), float((whole * (one[0] @ one[1].T)).sum())]
    assert products(dense) == pytest.approx(expected)
    assert products(factored) == pytest.approx(expected)


def test_the_square_of_next_to_nothing_keeps_its_digits() -> None:
    _, factored, _ = problems(40, 30)
    left, right = factors(40, 30, 3, 1)
    step = 1e-9 * factors(40, 30, 3, 2)[0]
    move = combined(1, factored.iterate(left + step, right), -1, factored.iterate(left, right))
    expected = np.square(step @ right.T).sum()
    assert factored.inner(move, move) == pytest.approx(expected, rel=1e-5)


def test_nothing_to_add_to_nothing_is_nothing() -> None:
    _, factored, observed = problems(60, 50)
    left, right = np.zeros((60, 0)), np.zeros((50, 0))
    found = factored.shrunk(factored.iterate(left, right), np.zeros(observed.sum()), 0.1, 3, 3)
    assert [factor.shape for factor in found] == [(60, 0), (50, 0)]


def test_low_ranks_are_those_of_large_matrices() -> None:
    assert is_low(5, (250, 1000))
    assert not is_low(5, (87, 99))
    assert not is_low(250, (250, 1000))


def test_completions_are_the_same_with_factors_and_whole() -> None:
    errors = errors_of(160, 170)
    shrinkage = 1.5
    whole = soft_impute(errors, shrinkage=shrinkage)
    assert 1 <= len(whole.singular_values) <= 5
    limited = soft_impute(errors, shrinkage=shrinkage, rank=5)
    assert is_low(5, errors.shape)
    assert not is_low(160, errors.shape)
    assert limited.converged
    assert limited.singular_values == pytest.approx(whole.singular_values, rel=1e-5)
    assert limited.matrix == pytest.approx(whole.matrix, abs=1e-5)
    again = soft_impute(errors, shrinkage=shrinkage, rank=5, start=limited)
    assert again.iterations <= 2


def test_where_the_offset_is_everything_there_is_no_rank() -> None:
    errors = np.full((160, 170), 0.4)
    found = soft_impute(errors, shrinkage=0.1, rank=2, offset=errors)
    assert (len(found.singular_values), found.converged) == (0, True)
