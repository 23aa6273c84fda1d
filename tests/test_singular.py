from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from optuna_peppp.singular import leading


def low_rank(n: int, d: int, rank: int, noise: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    product = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d))
    return np.asarray(product + noise * rng.normal(size=(n, d)))


@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize("shape", [(150, 120), (120, 150)])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_they_are_those_of_a_whole_decomposition(
    operator: bool, shape: tuple[int, int], noise: float
) -> None:
    matrix = low_rank(*shape, 4, noise)
    asked: np.ndarray | LinearOperator = aslinearoperator(matrix) if operator else matrix
    left, values, right = leading(asked, 4)
    u, s, vt = np.linalg.svd(matrix)
    assert values == pytest.approx(s[:4], rel=1e-10)
    assert left * values @ right.T == pytest.approx(u[:, :4] * s[:4] @ vt[:4], abs=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 9])
def test_there_are_no_more_than_a_matrix_has(rank: int) -> None:
    matrix = low_rank(5, 3, 3, 0.1)
    left, values, right = leading(matrix, rank)
    found = min(rank, 3)
    assert (left.shape, values.shape, right.shape) == ((5, found), (found,), (3, found))
    assert values == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[:found])


def test_they_are_always_the_same() -> None:
    matrix = low_rank(120, 150, 4, 0.3)
    one, other = leading(matrix, 3), leading(matrix, 3)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
