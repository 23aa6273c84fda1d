"""What is learned although configurations were never measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, load_corpus
from optuna_peppp.meta.averaging import learn
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.guessing import continued
from optuna_peppp.meta.prior import TaskPrior

CORPUS = load_corpus("plain3-cifar100")


def measured_in_part(tasks: int, count: int, seed: int = 0) -> ErrorMatrix:
    """Some tasks of the corpus that ships, so many configurations measured of each at random."""
    rng = np.random.default_rng(seed)
    hidden = [rng.permutation(len(CORPUS.space))[count:] for _ in range(tasks)]
    errors = CORPUS.errors[:tasks].copy()
    for row, columns in enumerate(hidden):
        errors[row, columns] = math.nan
    return replace(CORPUS.rows(range(tasks)), errors=errors)


@pytest.fixture(scope="module")
def few() -> tuple[ErrorMatrix, MetaModel]:
    """Three tasks of fifteen measurements, and what was learned from them."""
    matrix = measured_in_part(3, 15)
    return matrix, MetaModel.fit(matrix)


def test_continued_is_the_conditional_given_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    warm = FactorModel(rng.uniform(0.2, 0.8, 5), rng.normal(size=(5, 2)), rng.uniform(0.1, 0.2, 5))
    factors = FactorModel(rng.uniform(0.2, 0.8, 3), rng.normal(size=(3, 2)), np.full(3, 0.04))
    seen, unseen = np.array([0, 2, 3]), np.array([1, 4])
    prior = TaskPrior((factors,), np.ones((1, 2)), np.ones((1, 1)))
    (whole,) = continued(prior, seen, warm).models
    kernel = warm.loadings @ warm.loadings.T
    known = kernel[np.ix_(seen, seen)] + np.diag(warm.noise[seen])
    gain = kernel[np.ix_(unseen, seen)] @ np.linalg.inv(known)
    np.testing.assert_array_equal(whole.mean[seen], factors.mean)
    np.testing.assert_allclose(
        whole.mean[unseen], warm.mean[unseen] + gain @ (factors.mean - warm.mean[seen])
    )
    covariance, own = whole.loadings @ whole.loadings.T, factors.loadings @ factors.loadings.T
    np.testing.assert_allclose(covariance[np.ix_(seen, seen)], own)
    np.testing.assert_allclose(covariance[np.ix_(unseen, seen)], gain @ own)
    remaining = kernel[np.ix_(unseen, unseen)] - gain @ kernel[np.ix_(seen, unseen)]
    np.testing.assert_allclose(covariance[np.ix_(unseen, unseen)], gain @ own @ gain.T + remaining)
    np.testing.assert_array_equal(whole.noise[seen], factors.noise)
    np.testing.assert_allclose(whole.noise[unseen], warm.noise[unseen] + gain**2 @ factors.noise)


def test_what_was_measured_stays_and_what_is_guessed_is_told(
    few: tuple[ErrorMatrix, MetaModel],
) -> None:
    matrix, meta = few
    observed = matrix.observed
    np.testing.assert_array_equal(meta.errors[observed], matrix.errors[observed])
    never = np.flatnonzero(~observed.any(axis=0))
    first = CORPUS.space.params(int(never[0]))
    assert (
        f"Of 99 configurations {never.size} were never measured on any of 3 past tasks (format_a "
        f"{first['format_a']}, format_b {first['format_b']};"
    ) in meta.selection
    assert "guessed" in meta.selection
    assert "moved by past tasks" in meta.selection


def away(meta: MetaModel, columns: NDArray[np.intp]) -> float:
    """Mean distance of expected errors from the truth, on tasks that nobody learned from.

    One configuration of each was measured.
    """
    found = []
    for truth in CORPUS.errors[3:]:
        expected = meta.prior.condition([40], truth[[40]]).moments().mean
        found.append(np.abs(expected - truth)[columns].mean())
    return float(np.mean(found))


def test_never_measured_errors_are_closer_than_those_of_a_cold_start(
    few: tuple[ErrorMatrix, MetaModel],
) -> None:
    matrix, meta = few
    never = np.flatnonzero(~matrix.observed.any(axis=0))
    assert away(meta, never) < 0.6 * away(MetaModel.cold(CORPUS.space), never)


def test_least_squares_know_what_was_guessed(few: tuple[ErrorMatrix, MetaModel]) -> None:
    matrix, meta = few
    counts = matrix.observed.sum(axis=0)
    assert np.median(meta.noise[counts == 0]) > np.median(meta.noise[counts > 1])


def test_one_past_task_is_enough() -> None:
    whole = MetaModel.fit(CORPUS.rows([0]))
    assert whole.tasks == CORPUS.tasks[:1]
    np.testing.assert_array_equal(whole.errors, CORPUS.errors[:1])
    assert "on the one past task" in whole.selection
    every, cold = np.arange(99), MetaModel.cold(CORPUS.space)
    part = MetaModel.fit(measured_in_part(1, 10))
    assert away(whole, every) < away(part, every) < away(cold, every)


def test_many_tasks_keep_their_factor_models() -> None:
    never = [5, 50]
    corpus = CORPUS.rows(range(10))
    errors = corpus.errors.copy()
    errors[:, never] = math.nan
    meta = MetaModel.fit(replace(corpus, errors=errors))
    seen = np.delete(np.arange(99), never)
    learned = learn(errors[:, seen]).prior
    restricted = meta.prior.restricted(seen)
    assert meta.prior.transform == learned.transform
    np.testing.assert_array_equal(restricted.weights, learned.weights)
    for ours, theirs in zip(restricted.models, learned.models, strict=True):
        np.testing.assert_array_equal(ours.mean, theirs.mean)
        np.testing.assert_array_equal(ours.loadings[:, : theirs.rank], theirs.loadings)
    assert np.abs(meta.errors - corpus.errors)[:, never].mean() < 0.015
    assert "past tasks: all" in meta.selection


def test_one_configuration_of_several_is_enough() -> None:
    space = ConfigurationSpace({"bits": [1, 2, 4, 8]})
    errors = np.full((2, 4), math.nan)
    errors[:, 1] = 0.2, 0.3
    meta = MetaModel.fit(ErrorMatrix(space, ("a", "b"), errors, np.full((2, 4), math.nan)))
    assert "Too little was measured to compare" in meta.selection
    expected = meta.prior.condition([], []).moments().mean
    # The nearer in bits, the closer to what was found.
    assert 0.2 < expected[1] < expected[2] < expected[3] < 0.5


def test_rank_and_test_images_are_heeded(tmp_path: Path) -> None:
    matrix = measured_in_part(4, 12, seed=1)
    meta = MetaModel.fit(matrix, rank=3, test_images=[50, 500, 500, 500])
    assert meta.rank == 3
    meta.save(tmp_path / "few.npz")
    loaded = MetaModel.load(tmp_path / "few.npz")
    assert loaded.selection == meta.selection
    np.testing.assert_array_equal(loaded.errors, meta.errors)
    np.testing.assert_array_equal(loaded.prior.weights, meta.prior.weights)
    np.testing.assert_array_equal(loaded.committee.weights, meta.committee.weights)
