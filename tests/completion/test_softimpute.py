from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from optuna_peppp import ConfigurationSpace, ErrorMatrix
from optuna_peppp.completion.softimpute import Completion, soft_impute, soft_impute_path

Matrix = NDArray[np.float64]

SHRINKAGE = 0.2


def solution(completion: Completion) -> Matrix:
    """The solution before clipping."""
    product: Matrix = completion.left * completion.singular_values @ completion.right.T
    return product


def low_rank(
    n: int, d: int, *, rank: int = 3, observed: float = 0.5, noise: float = 0.02, seed: int = 0
) -> Matrix:
    """Errors of low rank and noise, NaN where unobserved."""
    generator = np.random.default_rng(seed)
    product = generator.random((n, rank)) @ generator.random((rank, d)) / rank
    errors = np.clip(product + noise * generator.standard_normal((n, d)), 0, 1)
    hidden = generator.random((n, d)) >= observed
    hidden[0, 0] = False
    return np.where(hidden, np.nan, errors)


def weighting(errors: Matrix, seed: int = 0) -> Matrix:
    """Weights from 0.05 to 1 where errors are observed, the largest 1, and 0 elsewhere."""
    weights = np.random.default_rng(seed).uniform(0.05, 1, errors.shape) * ~np.isnan(errors)
    scaled: Matrix = weights / weights.max()
    return scaled


def residual(errors: Matrix, weights: Matrix, z: Matrix) -> Matrix:
    """w (E - Z), the negative gradient."""
    return weights * np.where(np.isnan(errors), 0, errors - z)


def objective(errors: Matrix, weights: Matrix, z: Matrix, shrinkage: float) -> float:
    squares = weights * np.where(np.isnan(errors), 0, errors - z) ** 2
    return float(squares.sum() / 2 + shrinkage * np.linalg.norm(z, "nuc"))


problems = st.builds(
    low_rank,
    st.integers(1, 9),
    st.integers(1, 9),
    observed=st.sampled_from([0.3, 0.6, 1.0]),
    seed=st.integers(0, 10_000),
)


@settings(deadline=None, max_examples=50)
@given(problems, st.booleans(), st.sampled_from([0.05, 0.3, 1.0]))
def test_karush_kuhn_tucker(errors: Matrix, weighted: bool, shrinkage: float) -> None:
    weights = weighting(errors) if weighted else 1.0 * ~np.isnan(errors)
    completion = soft_impute(
        errors, shrinkage=shrinkage, weights=weights if weighted else None, tol=1e-8
    )
    assert completion.converged
    # -G must be a subgradient of the nuclear norm: shrinkage * (U V' + N), where N is orthogonal
    # to U and V and has no singular value above 1.
    dual = residual(errors, weights, solution(completion)) / shrinkage
    left, right = completion.left, completion.right
    np.testing.assert_allclose(dual @ right, left, atol=1e-7)
    np.testing.assert_allclose(dual.T @ left, right, atol=1e-7)
    assert np.linalg.norm(dual - left @ right.T, 2) <= 1 + 1e-7


@settings(deadline=None, max_examples=50)
@given(problems)
def test_factors_are_a_singular_value_decomposition(errors: Matrix) -> None:
    completion = soft_impute(errors, shrinkage=SHRINKAGE)
    rank = len(completion.singular_values)
    np.testing.assert_allclose(completion.left.T @ completion.left, np.eye(rank), atol=1e-9)
    np.testing.assert_allclose(completion.right.T @ completion.right, np.eye(rank), atol=1e-9)
    assert (completion.singular_values > 0).all()
    assert (np.diff(completion.singular_values) <= 0).all()
    np.testing.assert_allclose(completion.matrix, solution(completion).clip(0, 1), atol=1e-12)
    assert completion.shrinkage == SHRINKAGE


@pytest.mark.parametrize("rank", [None, 1, 2, 5])
@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (90, 60)])
def test_a_fully_observed_matrix_has_a_closed_form(
    shape: tuple[int, int], rank: int | None
) -> None:
    errors = low_rank(*shape, observed=1, noise=0.1)
    left, values, right = np.linalg.svd(errors, full_matrices=False)
    expected = (left * np.maximum(values - SHRINKAGE, 0))[:, :rank] @ right[:rank]
    completion = soft_impute(errors, shrinkage=SHRINKAGE, rank=rank)
    assert completion.converged
    np.testing.assert_allclose(solution(completion), expected, atol=1e-9)


def test_one_number() -> None:
    # z minimizes 1/2 (z - 0.7)^2 + 0.2 |z|; a weight alone is divided by itself.
    for weights in (None, [[3.0]]):
        completion = soft_impute([[0.7]], shrinkage=0.2, weights=weights)
        assert completion.matrix == pytest.approx(0.5)
    assert soft_impute([[0.7]], shrinkage=0.8).matrix == 0


def test_weights_of_a_diagonal() -> None:
    # Of disjoint rows and columns each entry is a problem of its own, 1/2 w (z - e)^2 +
    # shrinkage |z|, of which the minimum is e - shrinkage / w, at least 0.
    errors = np.where(np.eye(3, dtype=bool), [0.9, 0.8, 0.1], 0.0)
    weights = np.where(np.eye(3, dtype=bool), [0.5, 1.0, 0.25], 1.0)
    completion = soft_impute(errors, shrinkage=0.1, weights=weights, tol=1e-9)
    np.testing.assert_allclose(completion.matrix, np.diag([0.7, 0.7, 0.0]), atol=1e-8)


def textbook(errors: Matrix, shrinkage: float, rank: int, iterations: int) -> Matrix:
    """SoftImpute as published: fill in, decompose, threshold, from zero (paper, Algorithm 1)."""
    z = np.zeros_like(errors)
    for _ in range(iterations):
        left, values, right = np.linalg.svd(
            np.where(np.isnan(errors), z, errors), full_matrices=False
        )
        z = (left * np.maximum(values - shrinkage, 0))[:, :rank] @ right[:rank]
    return z


def factorized(errors: Matrix, weights: Matrix, shrinkage: float) -> Matrix:
    """1/2 sum w (A B' - E)^2 + shrinkage/2 (||A||^2 + ||B||^2) by L-BFGS, at full rank."""
    n, d = errors.shape
    rank = min(n, d)

    def value(flat: Matrix) -> tuple[float, Matrix]:
        a, b = flat[: n * rank].reshape(n, rank), flat[n * rank :].reshape(d, rank)
        left_over = residual(errors, np.sqrt(weights), a @ b.T)
        pull = np.sqrt(weights) * left_over
        gradient = np.concatenate(
            ((shrinkage * a - pull @ b).ravel(), (shrinkage * b - pull.T @ a).ravel())
        )
        return float((left_over**2).sum() + shrinkage * (flat**2).sum()) / 2, gradient

    start = np.random.default_rng(0).standard_normal((n + d) * rank)
    result = scipy.optimize.minimize(
        value,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-9},
    )
    product: Matrix = (
        result.x[: n * rank].reshape(n, rank) @ result.x[n * rank :].reshape(d, rank).T
    )
    return product


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rank", [None, 3])
def test_the_textbook_iteration_agrees(rank: int | None, seed: int) -> None:
    errors = low_rank(20, 30, seed=seed)
    completion = soft_impute(errors, shrinkage=SHRINKAGE, rank=rank, tol=1e-9)
    expected = textbook(errors, SHRINKAGE, 20 if rank is None else rank, iterations=2000)
    np.testing.assert_allclose(solution(completion), expected, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shrinkage", [0.02, 0.2])
def test_the_factorized_problem_agrees(shrinkage: float, seed: int) -> None:
    errors = low_rank(12, 15, seed=seed)
    weights = weighting(errors, seed)
    completion = soft_impute(errors, shrinkage=shrinkage, weights=weights, tol=1e-9)
    expected = factorized(errors, weights, shrinkage)
    np.testing.assert_allclose(solution(completion), expected, atol=1e-4)
    assert objective(errors, weights, solution(completion), shrinkage) == pytest.approx(
        objective(errors, weights, expected, shrinkage), rel=1e-8
    )


def test_more_than_fits_the_first_sweeps_agrees_with_the_textbook_too() -> None:
    # The solution has a rank far above that of the alternating least squares it starts from.
    errors = low_rank(60, 80, noise=0.3, observed=0.8)
    completion = soft_impute(errors, shrinkage=SHRINKAGE, tol=1e-9)
    assert len(completion.singular_values) > 30
    np.testing.assert_allclose(
        solution(completion), textbook(errors, SHRINKAGE, 60, iterations=2500), atol=1e-7
    )


@settings(deadline=None, max_examples=40)
@given(problems, st.booleans(), st.data())
def test_permuting_and_transposing_commute_with_completing(
    errors: Matrix, weighted: bool, data: st.DataObject
) -> None:
    n, d = errors.shape
    rows, columns = data.draw(st.permutations(range(n))), data.draw(st.permutations(range(d)))
    weights = weighting(errors) if weighted else None
    moved = np.ix_(rows, columns)
    completion = soft_impute(errors, shrinkage=SHRINKAGE, weights=weights, tol=1e-9)
    permuted = soft_impute(
        errors[moved],
        shrinkage=SHRINKAGE,
        weights=None if weights is None else weights[moved],
        tol=1e-9,
    )
    transposed = soft_impute(
        errors.T, shrinkage=SHRINKAGE, weights=None if weights is None else weights.T, tol=1e-9
    )
    np.testing.assert_allclose(permuted.matrix, completion.matrix[moved], atol=1e-6)
    np.testing.assert_allclose(transposed.matrix.T, completion.matrix, atol=1e-6)


def test_weights_count_relative_to_the_largest_where_observed() -> None:
    errors = low_rank(20, 30)
    weights = weighting(errors)
    plain = soft_impute(errors, shrinkage=SHRINKAGE)
    equal = soft_impute(errors, shrinkage=SHRINKAGE, weights=np.full(errors.shape, 7.0))
    np.testing.assert_array_equal(equal.matrix, plain.matrix)
    expected = soft_impute(errors, shrinkage=SHRINKAGE, weights=weights)
    for unobserved in (0.0, 1e9, -1.0, np.nan):
        given_weights = np.where(np.isnan(errors), unobserved, 4 * weights)
        other = soft_impute(errors, shrinkage=SHRINKAGE, weights=given_weights)
        np.testing.assert_array_equal(other.matrix, expected.matrix)
    assert np.abs(expected.matrix - plain.matrix).max() > 0.01


def test_a_warm_start_saves_iterations() -> None:
    errors = low_rank(40, 50, noise=0.1)
    cold = soft_impute(errors, shrinkage=SHRINKAGE, tol=1e-8)
    nearby = soft_impute(errors, shrinkage=1.1 * SHRINKAGE, tol=1e-8)
    warm = soft_impute(errors, shrinkage=SHRINKAGE, tol=1e-8, start=nearby)
    np.testing.assert_allclose(warm.matrix, cold.matrix, atol=1e-7)
    assert warm.iterations < cold.iterations
    assert soft_impute(errors, shrinkage=SHRINKAGE, tol=1e-8, start=cold).iterations <= 2


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_path_is_its_separate_solutions(rank: int | None, weighted: bool) -> None:
    errors = low_rank(20, 30)
    weights = weighting(errors) if weighted else None
    shrinkages = [3.0, 1.0, 0.3]
    path = soft_impute_path(errors, shrinkages, rank=rank, weights=weights, tol=1e-9)
    assert [completion.shrinkage for completion in path] == shrinkages
    for completion in path:
        alone = soft_impute(
            errors, shrinkage=completion.shrinkage, rank=rank, weights=weights, tol=1e-9
        )
        np.testing.assert_allclose(completion.matrix, alone.matrix, atol=1e-7)
    norms = [completion.singular_values.sum() for completion in path]
    assert all(first < second for first, second in pairwise(norms))
    assert soft_impute_path(errors, []) == []


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_rank_restricts(rank: int) -> None:
    errors = low_rank(30, 40, noise=0.2)
    weights = 1.0 * ~np.isnan(errors)
    completion = soft_impute(errors, shrinkage=SHRINKAGE, rank=rank, tol=1e-8)
    assert completion.converged
    assert len(completion.singular_values) == rank
    # Stationary on the matrices of that rank.
    dual = residual(errors, weights, solution(completion)) / SHRINKAGE
    np.testing.assert_allclose(dual @ completion.right, completion.left, atol=1e-7)
    np.testing.assert_allclose(dual.T @ completion.left, completion.right, atol=1e-7)
    # And no worse than what the textbook iteration finds from zero.
    other = textbook(errors, SHRINKAGE, rank, iterations=1000)
    assert objective(errors, weights, solution(completion), SHRINKAGE) <= 1.0001 * objective(
        errors, weights, other, SHRINKAGE
    )


def test_a_rank_that_does_not_bind_changes_nothing() -> None:
    errors = low_rank(30, 40)
    free = soft_impute(errors, shrinkage=1.0, tol=1e-9)
    assert len(free.singular_values) < 6
    bound = soft_impute(errors, shrinkage=1.0, rank=6, tol=1e-9)
    np.testing.assert_allclose(bound.matrix, free.matrix, atol=1e-7)


@pytest.mark.parametrize("rank", [None, 3])
def test_large_matrices(rank: int | None) -> None:
    errors = low_rank(300, 400, observed=0.2)
    weights = 1.0 * ~np.isnan(errors)
    completion = soft_impute(errors, shrinkage=1.0, rank=rank)
    assert completion.converged
    dual = residual(errors, weights, solution(completion))
    inside = completion.left @ completion.right.T
    np.testing.assert_allclose(dual @ completion.right, completion.left, atol=1e-5)
    assert np.linalg.norm(dual - inside, 2) <= 1 + 1e-5
    np.testing.assert_allclose(
        solution(completion), textbook(errors, 1.0, rank or 300, iterations=60), atol=1e-3
    )


def test_what_is_above_every_singular_value_leaves_nothing() -> None:
    errors = low_rank(20, 30)
    largest = float(np.linalg.norm(np.nan_to_num(errors), 2))
    nothing = soft_impute(errors, shrinkage=1.001 * largest)
    assert nothing.converged
    assert len(nothing.singular_values) == 0
    assert not nothing.matrix.any()
    assert len(soft_impute(errors, shrinkage=0.999 * largest).singular_values) == 1
    started = soft_impute(
        errors, shrinkage=1.001 * largest, start=soft_impute(errors, shrinkage=0.1)
    )
    assert started.converged
    assert not started.matrix.any()


def test_errors_of_zero_are_completed_by_zero() -> None:
    completion = soft_impute([[0.0, np.nan], [0.0, 0.0]], shrinkage=0.1)
    assert completion.converged
    assert not completion.matrix.any()


def test_a_row_that_was_never_observed_becomes_zero() -> None:
    errors = low_rank(8, 9)
    errors[2] = np.nan
    np.testing.assert_allclose(soft_impute(errors, shrinkage=0.1).matrix[2], 0, atol=1e-9)


def test_clipping() -> None:
    # By its rank the unobserved entry is 0.9 * 0.9 / 0.3.
    errors = [[0.3, 0.9], [0.9, np.nan]]
    completion = soft_impute(errors, shrinkage=1e-3, rank=1, tol=1e-8)
    assert solution(completion)[1, 1] > 2
    assert completion.matrix[1, 1] == 1
    np.testing.assert_allclose(completion.matrix, solution(completion).clip(0, 1))


def test_an_offset_is_completed_around() -> None:
    errors = low_rank(20, 30)
    offset = np.full(errors.shape, np.nanmean(errors))
    completion = soft_impute(errors, shrinkage=SHRINKAGE, offset=offset, tol=1e-9)
    left_over = textbook(errors - offset, SHRINKAGE, 20, iterations=2000)
    np.testing.assert_allclose(solution(completion), left_over, atol=1e-7)
    np.testing.assert_allclose(completion.matrix, (offset + left_over).clip(0, 1), atol=1e-7)
    everything = soft_impute(errors, shrinkage=100, offset=offset)
    np.testing.assert_allclose(everything.matrix, offset, atol=1e-12)
    (on_path,) = soft_impute_path(errors, [SHRINKAGE], offset=offset, tol=1e-9)
    np.testing.assert_allclose(on_path.matrix, completion.matrix, atol=1e-12)


def test_stopping_early_shows() -> None:
    errors = low_rank(40, 50, noise=0.1)
    stopped = soft_impute(errors, shrinkage=SHRINKAGE, max_iterations=3)
    assert stopped.iterations == 3
    assert not stopped.converged
    assert stopped.gap > 1e-6
    loose = soft_impute(errors, shrinkage=SHRINKAGE, tol=2 * stopped.gap)
    assert loose.converged
    assert loose.iterations <= 3
    exact = soft_impute(errors, shrinkage=SHRINKAGE)
    assert exact.converged
    assert exact.gap <= 1e-6


def test_the_gap_is_that_of_a_subgradient_at_the_solution() -> None:
    # Where the solution has full rank the subgradient is unique: G + shrinkage * U V'.
    errors = low_rank(15, 20, observed=1, noise=0.3)
    weights = weighting(errors)
    gaps = []
    for iterations in (1, 4, 16):
        stopped = soft_impute(errors, shrinkage=0.01, weights=weights, max_iterations=iterations)
        assert len(stopped.singular_values) == 15
        subgradient = 0.01 * stopped.left @ stopped.right.T - residual(
            errors, weights, solution(stopped)
        )
        assert stopped.gap == pytest.approx(np.linalg.norm(subgradient) / 0.01, rel=1e-6)
        gaps.append(stopped.gap)
    assert gaps[0] > gaps[1] > gaps[2]


@pytest.mark.parametrize("shrinkage", [1e-20, 1e-9])
def test_next_to_no_shrinkage_interpolates(shrinkage: float) -> None:
    errors = low_rank(5, 30, observed=0.3)
    completion = soft_impute(errors, shrinkage=shrinkage, max_iterations=200)
    observed = ~np.isnan(errors)
    np.testing.assert_allclose(completion.matrix[observed], errors[observed], atol=1e-5)


def test_the_input_stays_as_it_is() -> None:
    errors = low_rank(8, 9)
    weights = weighting(errors)
    before = errors.copy(), weights.copy()
    soft_impute(errors, shrinkage=0.1, weights=weights, offset=np.zeros(errors.shape))
    np.testing.assert_array_equal(errors, before[0])
    np.testing.assert_array_equal(weights, before[1])


def test_the_authors_matrix(shared: Path) -> None:
    errors = ErrorMatrix.read_csv(
        shared / "peppp" / "corpus.csv", ConfigurationSpace.paper()
    ).errors
    observed = np.random.default_rng(0).random(errors.shape) < 0.2
    known = np.where(observed, errors, np.nan)
    completion = soft_impute(known, shrinkage=0.1, rank=5)
    assert completion.converged
    weights = observed.astype(np.float64)
    reached = objective(known, weights, solution(completion), 0.1)
    reference = textbook(known, 0.1, 5, iterations=500)
    assert reached <= 1.0001 * objective(known, weights, reference, 0.1)
    # It tells more of an unobserved entry than the mean of its task.
    means = np.nanmean(known, axis=1, keepdims=True)
    assert (
        np.abs(completion.matrix - errors)[~observed].mean()
        < np.abs(means - errors)[~observed].mean()
    )


def test_bad_arguments_are_refused() -> None:
    errors = np.array([[0.2, np.nan, 0.4], [0.3, 0.5, np.nan]])
    start = soft_impute(errors, shrinkage=0.1)

    def refused(message: str, errors: object = errors, **options: object) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            soft_impute(errors, **({"shrinkage": 0.1} | options))  # type: ignore[arg-type]

    refused(
        "errors must be a matrix (tasks, configurations), not empty; got shape (2,)", [0.1, 0.2]
    )
    refused("not empty; got shape (0, 3)", np.empty((0, 3)))
    refused("errors must hold at least one observed entry; all are NaN", [[np.nan, np.nan]])
    refused("errors must lie in [0, 1]; errors[0, 1] is 1.5", [[0.2, 1.5]])
    refused("errors must lie in [0, 1]; errors[1, 0] is -0.1", [[0.2], [-0.1]])
    refused("errors must lie in [0, 1]; errors[0, 0] is inf", [[np.inf]])
    for shrinkage in (0.0, -1.0, np.nan, np.inf):
        refused(f"shrinkage must be positive and finite; got {shrinkage}", shrinkage=shrinkage)
    for rank in (0, 3):
        refused(f"rank must be between 1 and min(n, d) = 2; got {rank}", rank=rank)
    for tol in (0.0, -1.0, np.nan):
        refused(f"tol must be positive; got {tol}", tol=tol)
    refused("max_iterations must be at least 1; got 0", max_iterations=0)
    refused("weights must have the shape of errors, (2, 3); got (3, 2)", weights=np.ones((3, 2)))
    for weight in (0.0, -1.0, np.nan, np.inf):
        weights = np.ones((2, 3))
        weights[1, 0] = weight
        refused(
            "weights must be positive and finite where errors are observed; "
            f"weights[1, 0] is {weight}",
            weights=weights,
        )
    refused("offset must have the shape of errors, (2, 3); got (3,)", offset=np.ones(3))
    refused("offset must be finite; offset[0, 1] is nan", offset=np.where(errors > 0, 0.5, np.nan))
    refused("shape of errors, (1, 2); got (2, 3)", [[0.1, 0.2]], start=start)
    for shrinkages in ([0.1, 0.2], [0.1, 0.1]):
        with pytest.raises(ValueError, match=r"shrinkages must decrease; got .* after 0\.1"):
            soft_impute_path(errors, shrinkages)
