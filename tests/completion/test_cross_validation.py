"""Completing a partial matrix, with rank and shrinkage from cross-validation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from optuna_peppp.completion.cross_validation import Candidate, Completed, Selection, main_effects
from optuna_peppp.completion.softimpute import soft_impute, soft_impute_path


def hide(errors: NDArray[np.float64], share: float, seed: int = 0) -> NDArray[np.float64]:
    """A share of the entries unobserved."""
    return np.where(np.random.default_rng(seed).random(errors.shape) < share, np.nan, errors)


def low_rank(n: int, d: int, rank: int, noise: float = 0.0, seed: int = 0) -> NDArray[np.float64]:
    """Tasks that differ in ``rank - 1`` ways from their mean."""
    rng = np.random.default_rng(seed)
    errors = 0.5 + 0.12 * rng.normal(size=(n, rank - 1)) @ rng.uniform(-1, 1, (rank - 1, d))
    return np.clip(errors + noise * rng.normal(size=(n, d)), 0, 1)


def chosen_of(selection: Selection) -> Candidate:
    """The candidate that was chosen."""
    (chosen,) = (c for c in selection.candidates if c.rank == selection.rank)
    return chosen


def test_main_effects_solve_the_ridge_regression() -> None:
    errors = hide(np.random.default_rng(1).random((6, 9)), 0.4)
    rows, columns = np.nonzero(~np.isnan(errors))
    design = np.zeros((len(rows), 15))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), 6 + columns] = 1
    mean = np.nanmean(errors)
    effects = np.linalg.solve(
        design.T @ design + np.eye(15), design.T @ (errors[rows, columns] - mean)
    )
    np.testing.assert_allclose(
        main_effects(errors), mean + effects[:6, None] + effects[6:], atol=1e-8
    )


def test_main_effects_of_a_row_without_observations_are_those_of_the_columns() -> None:
    errors = np.array([[0.1, 0.9, 0.5], [np.nan, np.nan, np.nan]])
    effects = main_effects(errors)
    assert np.ptp(effects[1] - effects[0]) == pytest.approx(0)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_the_true_rank_is_chosen(rank: int) -> None:
    # A mean and its deviations in so many ways less one.
    errors = low_rank(60, 40, rank, noise=0.01)
    assert Completed.of(hide(errors, 0.5)).selection.rank == rank


def test_hidden_entries_are_predicted_as_well_as_cross_validation_says() -> None:
    errors = low_rank(60, 40, 3, noise=0.02)
    known = hide(errors, 0.3)
    completed = Completed.of(known)
    hidden = np.isnan(known)
    actual = np.sqrt(np.square(completed.matrix - errors)[hidden].mean())
    promised = chosen_of(completed.selection).error
    assert actual < 0.03  # the noise is 0.02
    assert actual == pytest.approx(promised, rel=0.15)


def test_sparse_matrices_are_completed_towards_what_is_known_and_not_towards_zero() -> None:
    rng = np.random.default_rng(0)
    errors = 0.5 + 0.1 * rng.normal(size=(13, 1)) + 0.1 * rng.normal(size=99)
    errors = np.clip(errors + 0.01 * rng.normal(size=(13, 99)), 0, 1)
    known = hide(errors, 0.88)
    hidden = np.isnan(known)

    def mistake(matrix: NDArray[np.float64]) -> float:
        return float(np.sqrt(np.square(matrix - errors)[hidden].mean()))

    plain = min(
        mistake(soft_impute(known, shrinkage=shrinkage).matrix)
        for shrinkage in (1.0, 0.3, 0.1, 0.03, 0.01)
    )
    assert mistake(Completed.of(known).matrix) < plain / 3


def test_residuals_are_those_of_entries_held_out() -> None:
    errors = hide(low_rank(30, 20, 2, noise=0.03), 0.3)
    completed = Completed.of(errors)
    np.testing.assert_array_equal(np.isnan(completed.residuals), np.isnan(errors))
    chosen = chosen_of(completed.selection)
    squares = np.square(completed.residuals[~np.isnan(errors)])
    assert np.sqrt(squares.mean()) == pytest.approx(chosen.error, rel=1e-3)
    # An entry cannot explain itself: in sample, the residuals are smaller.
    assert np.nanmean(np.square(errors - completed.matrix)) < squares.mean()


def test_the_completion_is_of_the_chosen_rank() -> None:
    completed = Completed.of(hide(low_rank(30, 20, 3, noise=0.02), 0.4))
    rank = completed.selection.rank
    assert completed.embeddings.shape == (20, rank)
    np.testing.assert_allclose(
        completed.embeddings.T @ completed.embeddings, np.eye(rank), atol=1e-12
    )
    assert np.linalg.matrix_rank(completed.matrix, tol=1e-8) == rank


def test_the_choice_is_the_smallest_rank_within_one_standard_error() -> None:
    selection = Completed.of(hide(low_rank(25, 30, 3, noise=0.05), 0.5)).selection
    assert [candidate.rank for candidate in selection.candidates] == [2, 3, 4, 5]
    good = [c.rank for c in selection.candidates if c.excess <= c.standard_error]
    assert selection.rank == min(good)
    best = min(selection.candidates, key=lambda candidate: candidate.error)
    assert best.excess == 0


def test_what_is_given_is_kept() -> None:
    selection = Completed.of(hide(low_rank(9, 8, 2), 0.2), rank=2, shrinkage=0.05).selection
    assert (selection.rank, selection.shrinkage) == (2, 0.05)
    assert len(selection.candidates) == 1


def test_the_report_tells_what_was_tried() -> None:
    known = hide(low_rank(20, 15, 2, noise=0.02), 0.5)
    selection = Completed.of(known).selection
    observed = np.count_nonzero(~np.isnan(known))
    text = str(selection)
    assert f"rank {selection.rank}, shrinkage" in text
    assert f"{observed} of 300 entries ({observed / 300:.0%})" in text
    assert f"2: {selection.candidates[0].error:.4f}, 3: " in text


def test_equal_errors_are_completed_by_themselves() -> None:
    completed = Completed.of(hide(np.full((6, 7), 0.4), 0.3))
    np.testing.assert_allclose(completed.matrix, 0.4, atol=1e-6)


@pytest.mark.parametrize(("shape", "ranks"), [((2, 9), [2]), ((9, 1), [1]), ((3, 9), [2, 3])])
def test_there_are_no_more_ranks_than_rows_and_columns(
    shape: tuple[int, int], ranks: list[int]
) -> None:
    errors = np.random.default_rng(0).random(shape)
    assert [c.rank for c in Completed.of(errors).selection.candidates] == ranks


def textbook(errors: NDArray[np.float64]) -> tuple[Selection, NDArray[np.float64]]:
    """Cross-validation over the whole path by whole matrices: the selection and its residuals."""
    entries = np.random.default_rng(0).permutation(np.argwhere(~np.isnan(errors)))
    offset = main_effects(errors)
    largest = np.linalg.norm(np.where(np.isnan(errors), 0.0, errors - offset), 2)
    shrinkages, ranks = largest * 10.0 ** -np.arange(0, 2.5, 0.5), (2, 3, 4, 5)
    residuals, scores = np.full((5, 4, *errors.shape), np.nan), np.empty((5, 5, 4))
    for fold in range(5):
        rows, columns = entries[fold::5].T
        training = errors.copy()
        training[rows, columns] = np.nan
        offset = main_effects(training)
        for i, low in enumerate(soft_impute_path(training, shrinkages, offset=offset, tol=1e-2)):
            whole = offset + low.left * low.singular_values @ low.right.T
            u, s, vt = np.linalg.svd(whole, full_matrices=False)
            for j, rank in enumerate(ranks):
                away = errors - np.clip(u[:, :rank] * s[:rank] @ vt[:rank], 0, 1)
                residuals[i, j, rows, columns] = away[rows, columns]
                scores[fold, i, j] = np.square(away[rows, columns]).mean()
    means = scores.mean(axis=0)
    best = np.unravel_index(means.argmin(), means.shape)
    excess = scores - scores[:, best[0], best[1]][:, None, None]
    candidates = []
    for j, rank in enumerate(ranks):
        i = int(means[:, j].argmin())
        error = float(excess[:, i, j].std(ddof=1) / np.sqrt(5))
        mean = float(excess[:, i, j].mean())
        candidates.append(
            Candidate(rank, float(shrinkages[i]), float(np.sqrt(means[i, j])), mean, error)
        )
    chosen = next(c for c in candidates if c.excess <= c.standard_error)
    place = int(np.flatnonzero(shrinkages == chosen.shrinkage)[0]), ranks.index(chosen.rank)
    counts = len(entries), errors.size
    return Selection(chosen.rank, chosen.shrinkage, *counts, tuple(candidates)), residuals[place]


@pytest.mark.parametrize(("share", "noise"), [(0.2, 0.02), (0.6, 0.05), (0.0, 0.02)])
def test_the_choice_is_the_textbooks(share: float, noise: float) -> None:
    errors = hide(low_rank(30, 25, 3, noise=noise), share)
    expected, residuals = textbook(errors)
    found = Completed.of(errors)
    assert str(found.selection) == str(expected)
    assert found.residuals == pytest.approx(residuals, abs=1e-4, nan_ok=True)
    for one, other in zip(found.selection.candidates, expected.candidates, strict=True):
        assert one.error == pytest.approx(other.error, rel=1e-4)
        assert one.standard_error == pytest.approx(other.standard_error, rel=1e-2, abs=1e-9)


def test_large_matrices_are_completed_by_the_ranks_that_are_tried() -> None:
    errors = hide(low_rank(120, 100, 4, noise=0.02), 0.6)
    assert errors.size > 10_000
    limited, unlimited = Completed.of(errors), textbook(errors)[0]
    assert chosen_of(limited.selection).error <= chosen_of(unlimited).error
    truth = low_rank(120, 100, 4)
    assert np.sqrt(np.square(limited.matrix - truth).mean()) < 0.02


def test_less_shrinkage_is_not_tried_once_it_harms() -> None:
    # There is nothing beyond main effects: the largest shrinkage, at which they stand alone.
    errors = np.clip(hide(0.4 + 0.1 * np.random.default_rng(2).normal(size=(120, 100)), 0.5), 0, 1)
    found = Completed.of(errors).selection
    effects = main_effects(errors)
    largest = np.linalg.norm(np.where(np.isnan(errors), 0.0, errors - effects), 2)
    assert [c.shrinkage for c in found.candidates] == pytest.approx([largest] * 4)
