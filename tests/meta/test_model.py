from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

import optuna_peppp.meta.model
from optuna_peppp.configurations.space import ConfigurationSpace, Value
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta import archive
from optuna_peppp.meta.averaging import Candidate, Learned, learn
from optuna_peppp.meta.committee import EVERYONE
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.transforms import Transform

Array = NDArray[np.float64]


def space_of(d: int) -> ConfigurationSpace:
    return ConfigurationSpace({"configuration": range(d)})


def matrix_of(errors: ArrayLike) -> ErrorMatrix:
    array = np.asarray(errors, dtype=np.float64)
    n, d = array.shape
    return ErrorMatrix(space_of(d), tuple(f"task {i}" for i in range(n)), array, np.ones((n, d)))


def low_rank(n: int, d: int, k: int, noise: ArrayLike = 0.0, seed: int = 0) -> Array:
    """Errors around 0.5 of rank k, with Gaussian noise of the given standard deviations."""
    rng = np.random.default_rng(seed)
    signal = rng.uniform(0.2, 1, (n, k)) @ rng.uniform(0.2, 1, (k, d)) / (1.2 * k)
    return np.clip(signal + np.asarray(noise) * rng.normal(size=(n, d)), 0, 1)


def hide(errors: Array, share: float) -> Array:
    """A share of the entries unobserved."""
    return np.where(np.random.default_rng(0).random(errors.shape) < share, np.nan, errors)


def plain_prior(d: int) -> TaskPrior:
    factors = FactorModel(np.full(d, 0.5), np.full((d, 1), 0.1), np.full(d, 0.01))
    return TaskPrior((factors,), scales=np.ones((1, 2)), weights=np.ones((1, 1)))


@pytest.fixture
def _unlearned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the learning of the prior where only the embeddings matter."""

    def spared(errors: Array, **_: object) -> Learned:
        chosen = Candidate("identity", "own", 0.0)
        return Learned(plain_prior(errors.shape[1]), (chosen,))

    monkeypatch.setattr(optuna_peppp.meta.model, "learn", spared)


def assert_same(left: MetaModel, right: MetaModel) -> None:
    """Equal bit for bit."""
    assert left.space == right.space
    assert left.tasks == right.tasks
    assert left.selection == right.selection
    for name in ("errors", "embeddings", "mean", "noise"):
        assert_same_bits(getattr(left, name), getattr(right, name))
    assert left.prior.transform == right.prior.transform
    for name in ("scales", "weights"):
        assert_same_bits(getattr(left.prior, name), getattr(right.prior, name))
    for one, other in zip(left.prior.models, right.prior.models, strict=True):
        for name in ("mean", "loadings", "noise"):
            assert_same_bits(getattr(one, name), getattr(other, name))


def assert_same_bits(left: Array, right: Array) -> None:
    assert left.dtype == right.dtype == np.float64
    assert left.shape == right.shape
    assert left.tobytes() == right.tobytes()


# Fitting


def test_embeddings_are_the_leading_eigenvectors_of_the_uncentered_second_moment() -> None:
    errors = low_rank(12, 7, 3, noise=0.05)
    meta = MetaModel.fit(matrix_of(errors), rank=3)
    values, vectors = scipy.linalg.eigh(errors.T @ errors)
    expected = vectors[:, np.argsort(values)[::-1][:3]]
    np.testing.assert_allclose(np.abs(meta.embeddings.T @ expected), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(meta.embeddings.T @ meta.embeddings, np.eye(3), atol=1e-12)


def test_the_fit_is_the_best_of_its_rank() -> None:
    errors = low_rank(9, 6, 4, noise=0.05)
    singular = np.linalg.svd(errors, compute_uv=False)
    for k in range(1, 7):
        y = MetaModel.fit(matrix_of(errors), rank=k).embeddings
        residual = np.linalg.norm(errors - errors @ y @ y.T)
        assert residual == pytest.approx(np.linalg.norm(singular[k:]), abs=1e-9)


def test_signs_are_fixed() -> None:
    errors = low_rank(9, 6, 4, noise=0.05)
    y = MetaModel.fit(matrix_of(errors), rank=4).embeddings
    assert (y[np.abs(y).argmax(axis=0), range(4)] > 0).all()
    # The order of tasks does not matter.
    np.testing.assert_allclose(MetaModel.fit(matrix_of(errors[::-1]), rank=4).embeddings, y)


def test_by_hand() -> None:
    meta = MetaModel.fit(matrix_of([[0.3, 0.4], [0.6, 0.8]]), rank=1)
    np.testing.assert_allclose(meta.embeddings, [[0.6], [0.8]])
    np.testing.assert_allclose(meta.mean, [0.45, 0.6])
    np.testing.assert_allclose(meta.noise, 0, atol=1e-15)
    np.testing.assert_allclose(meta.predict([0], [0.15])[0], [0.15, 0.2])


@pytest.mark.parametrize("hidden", [0.0, 0.3])
def test_the_rank_is_the_papers_unless_it_is_given(hidden: float) -> None:
    errors = hide(low_rank(40, 30, 2, noise=0.01), hidden)
    meta = MetaModel.fit(matrix_of(errors))
    assert meta.rank == 5
    embeddings, prior, committee = meta.selection.splitlines()
    assert embeddings.startswith("Embeddings: rank 5, ")
    assert prior.startswith("Factor models of the tasks, by rank and weight: 2: ")
    assert committee.startswith("What to measure next: ")
    assert [model.loadings.shape[1] for model in meta.prior.models] == [2, 3, 4, 5]
    given = MetaModel.fit(matrix_of(errors), rank=3)
    assert given.rank == 3
    assert given.embeddings.shape == (30, 3)
    assert [model.loadings.shape for model in given.prior.models] == [(30, 3)]
    # The leading ones are the same, of complete rows: the rank is how many there are.
    if not hidden:
        np.testing.assert_array_equal(given.embeddings, meta.embeddings[:, :3])
    # Complete rows leave nothing to choose but the prior.
    assert ("Embeddings: rank 3, as asked for." in given.selection) != bool(hidden)
    assert ("Embeddings: rank 5, as in the paper's runs." in meta.selection) != bool(hidden)
    assert "Factor models of the tasks, by rank and weight: 3: 100%" in given.selection


def test_the_rank_is_never_more_than_there_is() -> None:
    for n, d, rank in ((2, 9, 1), (9, 2, 1), (5, 9, 4), (9, 5, 4), (6, 9, 5)):
        errors = np.random.default_rng(0).random((n, d))
        meta = MetaModel.fit(matrix_of(errors))
        assert meta.rank == rank
        # Something is left over, that tells every configuration's own noise.
        assert np.ptp(meta.noise) > 0


# Fitting the prior


def assert_same_prior(left: MetaModel, right: MetaModel) -> None:
    assert left.prior.transform == right.prior.transform
    np.testing.assert_array_equal(left.prior.weights, right.prior.weights)
    for one, other in zip(left.prior.models, right.prior.models, strict=True):
        np.testing.assert_array_equal(one.mean, other.mean)
        np.testing.assert_array_equal(one.loadings, other.loadings)
        np.testing.assert_array_equal(one.noise, other.noise)


def test_the_prior_is_that_of_the_measured_entries() -> None:
    errors = hide(low_rank(12, 9, 2, noise=0.02), 0.3)
    meta = MetaModel.fit(matrix_of(errors), rank=2)
    learned = learn(errors, rank=2)
    assert meta.selection.splitlines()[1] == str(learned)
    for one, other in zip(meta.prior.models, learned.prior.models, strict=True):
        np.testing.assert_array_equal(one.mean, other.mean)
        np.testing.assert_array_equal(one.loadings, other.loadings)
    # SoftImpute's completion, which the embeddings are made of, has no part in it.
    shrunk = MetaModel.fit(matrix_of(errors), rank=2, shrinkage=1.0)
    assert (shrunk.embeddings != meta.embeddings).any()
    assert_same_prior(shrunk, meta)


def test_what_was_not_measured_is_what_the_prior_expects() -> None:
    errors = hide(low_rank(12, 9, 2, noise=0.02), 0.3)
    meta = MetaModel.fit(matrix_of(errors), rank=2)
    for row, completed in zip(errors, meta.errors, strict=True):
        known = ~np.isnan(row)
        np.testing.assert_array_equal(completed[known], row[known])
        posterior = meta.prior.condition(np.flatnonzero(known), row[known])
        expected = posterior.moments().mean.clip(0.0, 1.0)
        np.testing.assert_array_equal(completed[~known], expected[~known])


def test_the_prior_expects_of_a_new_task_what_tasks_have_in_common() -> None:
    errors = low_rank(60, 9, 2, noise=0.02)
    moments = MetaModel.fit(matrix_of(errors), rank=2).prior.condition([], []).moments()
    standard_errors = errors.std(axis=0) / math.sqrt(60)
    assert (np.abs(moments.mean - errors.mean(axis=0)) < standard_errors).all()
    np.testing.assert_allclose(moments.std, errors.std(axis=0), rtol=0.25)


def test_test_images_of_every_task_or_of_all() -> None:
    matrix = matrix_of(low_rank(8, 6, 2, noise=0.03))
    for_all = MetaModel.fit(matrix, rank=2, test_images=100)
    assert_same(MetaModel.fit(matrix, rank=2, test_images=[100] * 8), for_all)
    each = MetaModel.fit(matrix, rank=2, test_images=range(100, 900, 100))
    assert each.prior.models[0].noise.tolist() != for_all.prior.models[0].noise.tolist()
    # The embeddings, which are the paper's, do not know of them.
    np.testing.assert_array_equal(each.embeddings, MetaModel.fit(matrix, rank=2).embeddings)


def test_test_images_go_with_their_tasks() -> None:
    errors, images = low_rank(8, 6, 2, noise=0.03), np.arange(100, 900, 100)
    errors[2] = math.nan
    rest = np.arange(8) != 2
    whole = MetaModel.fit(matrix_of(errors), rank=2, test_images=images)
    assert_same_prior(
        MetaModel.fit(matrix_of(errors[rest]), rank=2, test_images=images[rest]), whole
    )


def test_the_noise_of_counting_on_few_images_is_counted_once() -> None:
    images, rng = 50, np.random.default_rng(0)
    truth = low_rank(60, 12, 2)
    counted = matrix_of(rng.binomial(images, truth) / images)
    binomial = math.sqrt((truth * (1 - truth)).mean() / images)

    def noise(known: int | None, told: int | None) -> float:
        """Of a new measurement."""
        prior = MetaModel.fit(counted, rank=2, test_images=known).prior
        return math.sqrt(prior.condition([], [], test_images=told).moments().noise.mean())

    assert noise(None, None) == pytest.approx(binomial, rel=0.1)
    assert noise(images, images) == pytest.approx(binomial, rel=0.1)
    # A model that was not told takes it for the configurations' own.
    assert noise(None, images) > 1.3 * binomial
    assert noise(images, 100 * images) < 0.9 * noise(images, images)


@pytest.mark.parametrize(
    "test_images", [0, -5, math.nan, math.inf, [100] * 3, [100, 100, 100, 0], [[100] * 4]]
)
def test_bad_test_images_are_refused(test_images: Any) -> None:
    with pytest.raises(
        ValueError,
        match="test_images must be one positive number, or one for each of the 4 tasks; got",
    ):
        MetaModel.fit(matrix_of(low_rank(4, 5, 2)), test_images=test_images)


# Fitting to partial matrices


def test_a_partial_matrix_gives_nearly_the_embeddings_of_the_whole() -> None:
    errors = low_rank(60, 30, 2, noise=0.01)
    whole = MetaModel.fit(matrix_of(errors), rank=2).embeddings
    partial = MetaModel.fit(matrix_of(hide(errors, 0.5)), rank=2).embeddings
    cosines = np.linalg.svd(whole.T @ partial, compute_uv=False)
    assert cosines.min() > 0.99


def test_unobserved_errors_are_predicted_from_those_observed() -> None:
    errors = low_rank(60, 30, 2, noise=0.01)
    hidden = np.isnan(hide(errors, 0.5))
    meta = MetaModel.fit(matrix_of(hide(errors, 0.5)))
    mistakes = (meta.errors - errors)[hidden]
    assert np.sqrt(np.square(mistakes).mean()) < 0.02
    np.testing.assert_allclose(meta.mean, meta.errors.mean(axis=0))


def test_one_missing_entry_changes_little() -> None:
    errors = low_rank(30, 20, 2, noise=0.01)
    partial = errors.copy()
    partial[3, 4] = math.nan
    whole = MetaModel.fit(matrix_of(errors), rank=2)
    one_less = MetaModel.fit(matrix_of(partial), rank=2)
    where = [0, 7, 12]
    np.testing.assert_allclose(
        one_less.predict(where, errors[5, where])[0],
        whole.predict(where, errors[5, where])[0],
        atol=0.01,
    )


@pytest.mark.usefixtures("_unlearned")
def test_noise_of_a_partial_fit_holds_the_uncertainty_of_the_task_too() -> None:
    noise = np.linspace(0.01, 0.05, 40)
    errors = hide(low_rank(800, 40, 2, noise), 0.5)
    meta = MetaModel.fit(matrix_of(errors), rank=2)
    ratio = meta.noise / noise
    assert ratio.min() > 0.9
    assert 1 < np.median(ratio) < 1.5
    assert np.corrcoef(meta.noise, noise)[0, 1] > 0.95


def test_configurations_measured_once_borrow_the_noise_of_the_others() -> None:
    errors = low_rank(30, 20, 2, noise=0.02)
    errors[1:, 5] = math.nan
    noise = MetaModel.fit(matrix_of(errors), rank=2).noise
    others = np.delete(noise, 5).mean()
    assert 0.5 * others < noise[5] < 10 * others


def test_tasks_without_measurements_are_left_out() -> None:
    errors = low_rank(6, 8, 2)
    errors[2] = math.nan
    assert MetaModel.fit(matrix_of(errors)).tasks == tuple(f"task {row}" for row in (0, 1, 3, 4, 5))


def test_configurations_that_were_never_measured_are_named() -> None:
    errors = low_rank(4, 6, 2)
    errors[:, [1, 2, 4, 5]] = math.nan
    assert (
        "Of 6 configurations 4 were never measured on any of 4 past tasks (configuration 1; "
        "configuration 2; configuration 4; ...)"
    ) in MetaModel.fit(matrix_of(errors)).selection


@pytest.mark.parametrize("shrinkage", [0.0, -1.0, math.inf])
def test_a_bad_shrinkage_is_refused(shrinkage: float) -> None:
    errors = hide(low_rank(10, 8, 2), 0.2)
    with pytest.raises(ValueError, match="shrinkage must be positive"):
        MetaModel.fit(matrix_of(errors), shrinkage=shrinkage)


@pytest.mark.usefixtures("_unlearned")
def test_noise_is_unbiased_for_few_tasks() -> None:
    # Residuals divided by n, or by n - 1, would give 0.007 and 0.008 here.
    variances = [
        np.square(MetaModel.fit(matrix_of(low_rank(4, 30, 2, 0.01, seed)), rank=2).noise)
        for seed in range(200)
    ]
    assert math.sqrt(np.mean(variances)) == pytest.approx(0.01, rel=0.03)


@pytest.mark.usefixtures("_unlearned")
def test_noise_is_that_of_each_configuration() -> None:
    noise = np.linspace(0.02, 0.05, 40)
    meta = MetaModel.fit(matrix_of(low_rank(2000, 40, 2, noise)), rank=2)
    np.testing.assert_allclose(meta.noise, noise, rtol=0.1)


def test_a_fit_that_explains_everything_does_not_claim_to_be_exact() -> None:
    for errors in (low_rank(3, 9, 3, noise=0.1), low_rank(9, 3, 3, noise=0.1)):
        meta = MetaModel.fit(matrix_of(errors), rank=3)
        np.testing.assert_array_equal(meta.noise, errors.std())


def test_arrays_cannot_be_written() -> None:
    meta = MetaModel.fit(matrix_of(low_rank(4, 5, 2)))
    for array in (meta.errors, meta.embeddings, meta.mean, meta.noise):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_what_cannot_be_fitted_is_refused() -> None:
    errors = low_rank(4, 5, 2)
    for rank in (0, 5, -1):
        with pytest.raises(ValueError, match=f"rank must be between 1 and 4, .*; got {rank}"):
            MetaModel.fit(matrix_of(errors), rank=rank)
    for none in (np.empty((0, 3)), [[math.nan, math.nan]]):
        with pytest.raises(ValueError, match=r"a measured task at least.*MetaModel\.cold"):
            MetaModel.fit(matrix_of(none))


def test_inconsistent_arrays_are_refused() -> None:
    meta = MetaModel.fit(matrix_of(low_rank(4, 5, 2)))
    arguments = {field.name: getattr(meta, field.name) for field in fields(meta) if field.init}
    with pytest.raises(ValueError, match=r"mean must be finite with shape \(5,\); got \(4,\)"):
        MetaModel(**{**arguments, "mean": np.zeros(4)})
    with pytest.raises(ValueError, match=r"errors must be finite with shape \(3, 5\)"):
        MetaModel(**{**arguments, "tasks": ("a", "b", "c")})


# Predicting


def ordinary_least_squares(
    meta: MetaModel, where: list[int], errors: Array, p: int
) -> tuple[Array, Array]:
    """Prediction and standard error by dense normal equations on p dimensions."""
    y, rest = meta.embeddings[:, :p], meta.embeddings[:, p:]
    left_out = np.mean([(rest @ (rest.T @ row)) ** 2 for row in meta.errors], axis=0)
    variance = meta.noise**2 + left_out
    inverse = np.linalg.inv(sum(np.outer(y[j], y[j]) for j in where))
    coefficients = inverse @ sum(y[j] * e for j, e in zip(where, errors, strict=True))
    spread = sum(variance[j] * np.outer(y[j], y[j]) for j in where)
    covariance = inverse @ spread @ inverse
    std = [math.sqrt(variance[j] + y[j] @ covariance @ y[j]) for j in range(len(y))]
    return y @ coefficients, np.array(std)


@cache
def small_model(seed: int) -> MetaModel:
    return MetaModel.fit(matrix_of(low_rank(15, 10, 3, noise=0.05, seed=seed)), rank=3)


@settings(deadline=None)
@given(st.integers(0, 9), st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_prediction_is_least_squares_on_the_leading_dimensions(seed: int, where: list[int]) -> None:
    meta = small_model(seed)
    measured = np.random.default_rng(seed).uniform(0, 1, len(where))
    mean, std = ordinary_least_squares(meta, where, measured, min(3, len(set(where))))
    predicted, predicted_std = meta.predict(where, measured)
    np.testing.assert_allclose(predicted, np.clip(mean, 0, 1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(predicted_std, std, rtol=1e-6)


def test_a_task_of_the_models_rank_is_predicted_exactly() -> None:
    errors = low_rank(12, 20, 3)
    meta = MetaModel.fit(matrix_of(errors[1:]), rank=3)
    predicted, std = meta.predict([0, 7, 13], errors[0, [0, 7, 13]])
    np.testing.assert_allclose(predicted, errors[0], atol=1e-9)
    assert (std < 1e-9).all()


@pytest.mark.usefixtures("_unlearned")
def test_without_measurements_the_mean_over_tasks_is_predicted() -> None:
    errors = low_rank(4000, 6, 2, noise=0.03)
    meta = MetaModel.fit(matrix_of(errors), rank=2)
    predicted, std = meta.predict([], [])
    np.testing.assert_allclose(predicted, errors.mean(axis=0))
    np.testing.assert_allclose(std, errors.std(axis=0), rtol=0.05)
    predicted[0] = 0.5  # the caller's own


def test_measurements_that_depend_on_each_other_determine_fewer_dimensions() -> None:
    # Configurations 0 and 1 always agree: two measurements, one dimension.
    errors = low_rank(8, 5, 3)
    errors[:, 1] = errors[:, 0]
    meta = MetaModel.fit(matrix_of(errors), rank=2)
    both = meta.predict([0, 1], [0.4, 0.4])
    np.testing.assert_allclose(both[0], meta.predict([0], [0.4])[0])
    assert both[0][1] == pytest.approx(0.4)


def test_predictions_lie_between_0_and_1() -> None:
    meta = MetaModel.fit(matrix_of([[0.1, 0.9], [0.2, 0.1]]), rank=2)
    assert meta.predict([0], [1.0])[0].max() <= 1
    steep = MetaModel.fit(matrix_of([[0.1, 0.9], [0.1, 0.9]]), rank=1)
    assert steep.predict([0], [0.9])[0].tolist() == pytest.approx([0.9, 1.0])


@pytest.mark.usefixtures("_unlearned")
@pytest.mark.parametrize("where", [[3], [3, 17], [3, 17, 29], [3, 17, 29, 8, 21]])
def test_standard_errors_are_those_of_new_tasks(where: list[int]) -> None:
    noise = np.linspace(0.01, 0.03, 30)
    errors = low_rank(3000, 30, 3, noise)
    meta = MetaModel.fit(matrix_of(errors[:1000]), rank=3)
    deviations = np.array([meta.predict(where, row[where])[0] - row for row in errors[1000:]])
    others = [j for j in range(30) if j not in where]
    _, std = meta.predict(where, errors[0, where])
    actual = np.sqrt(np.square(deviations).mean(axis=0))
    ratio = actual[others] / std[others]
    assert 0.7 < ratio.mean() < 1.1


def test_standard_errors_are_numbers_where_measurements_nearly_repeat_each_other() -> None:
    # Two embeddings that are nearly the same: numbers of 1e9 cancel.
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    embeddings = np.array([[1.0, 0.0], [1.0, 1e-9], [0.5, 0.5]]) @ turn
    errors = np.full((2, 3), 0.5)
    noise = np.full(3, 1e-3)
    meta = MetaModel(space_of(3), ("a", "b"), errors, embeddings, errors[0], noise, plain_prior(3))
    _, std = meta.predict([0, 1], [0.5, 0.5])
    # A prediction of what was measured is that measurement: its noise counts twice.
    assert std[:2] == pytest.approx(np.sqrt(2) * 1e-3, rel=1e-6)
    assert std[2] > 1e4


@pytest.mark.parametrize(
    ("indices", "errors", "problem"),
    [
        ([0, 1], [0.5], r"two vectors of one length.*\(2,\) and \(1,\)"),
        ([[0]], [[0.5]], "two vectors of one length"),
        ([0.0], [0.5], "indices of float64"),
        ([5], [0.5], "indices must be between 0 and 4; got 5"),
        ([0, -1], [0.5, 0.5], "indices must be between 0 and 4; got -1"),
        ([0, 1], [0.5, math.nan], r"errors must lie in \[0, 1\].*errors\[1\] is nan"),
        ([0], [50.0], r"errors\[0\] is 50.0"),
        ([0], [-0.1], r"errors\[0\] is -0.1"),
    ],
)
def test_bad_measurements_are_refused(indices: Any, errors: Any, problem: str) -> None:
    meta = MetaModel.fit(matrix_of(low_rank(4, 5, 2)))
    with pytest.raises(ValueError, match=problem):
        meta.predict(indices, errors)


# Saving and loading

values = st.one_of(
    st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


@settings(deadline=None)
@given(
    choices=st.lists(values, min_size=1, max_size=5, unique=True),
    task=st.text(),
    selection=st.text(),
    ranks=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    transform=st.sampled_from(get_args(Transform)),
    seed=st.integers(0, 99),
)
def test_a_saved_model_is_loaded_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    choices: list[Value],
    task: str,
    selection: str,
    ranks: list[int],
    transform: Transform,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("meta") / "meta"
    space = ConfigurationSpace({"x": choices, "format_a": ["1-4-3", "1-3-1"]})
    d, rng = len(space), np.random.default_rng(seed)

    def array(*shape: int) -> Array:
        """Numbers of all magnitudes that a model may have."""
        return rng.normal(size=shape) * 10.0 ** rng.integers(-320, 3, shape)

    def positive(*shape: int) -> Array:
        return rng.uniform(0.01, 1, shape) * 10.0 ** rng.integers(-2, 2, shape)

    models = tuple(FactorModel(array(d), array(d, k) * 1e-3, positive(d) * 1e-3) for k in ranks)
    weights = rng.dirichlet(np.ones(4 * len(ranks))).reshape(-1, 4)
    prior = TaskPrior(models, rng.uniform(0.1, 10, (4, 2)), weights, transform)
    meta = MetaModel(
        space,
        (task, "other"),
        rng.uniform(0, 1, (2, d)),
        array(d, 2),
        array(d),
        np.abs(array(d)),
        prior,
        selection,
    )
    meta.save(path)
    loaded = MetaModel.load(path)
    assert_same(loaded, meta)
    for before, after in zip(choices, loaded.space.choices["x"], strict=True):
        assert type(after) is type(before)
        assert repr(after) == repr(before)


@pytest.mark.parametrize("rank", [2, None])
def test_a_loaded_model_predicts_what_the_saved_one_does(tmp_path: Path, rank: int | None) -> None:
    meta = MetaModel.fit(matrix_of(hide(low_rank(9, 8, 3, noise=0.03), 0.2)), rank=rank)
    meta.save(tmp_path / "meta")
    loaded = MetaModel.load(tmp_path / "meta")
    assert_same(loaded, meta)
    for one, other in zip(
        meta.predict([1, 5], [0.4, 0.6]), loaded.predict([1, 5], [0.4, 0.6]), strict=True
    ):
        assert_same_bits(one, other)
    assert_same_bits(
        meta.prior.condition([1, 5], [0.4, 0.6], test_images=100).draws(20, seed=0),
        loaded.prior.condition([1, 5], [0.4, 0.6], test_images=100).draws(20, seed=0),
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "meta.npz"
    MetaModel.fit(matrix_of(low_rank(4, 5, 2, noise=0.1))).save(path)
    return path


def test_it_is_saved_to_exactly_the_path_and_nothing_else_remains(tmp_path: Path) -> None:
    first = MetaModel.fit(matrix_of(low_rank(4, 5, 2)))
    second = MetaModel.fit(matrix_of(low_rank(4, 5, 2, seed=1)))
    path = tmp_path / "model"
    first.save(path)
    assert list(tmp_path.iterdir()) == [path]
    content = path.read_bytes()
    with path.open("rb") as reader:
        second.save(str(path))
        assert reader.read() == content  # whoever reads the old file keeps it
    assert list(tmp_path.iterdir()) == [path]
    assert_same(MetaModel.load(str(path)), second)


def test_a_failed_save_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved.read_bytes()

    def fail(file: io.BufferedWriter, **_: object) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="no space left"):
        MetaModel.fit(matrix_of(low_rank(4, 5, 2))).save(saved)
    assert saved.read_bytes() == content
    assert list(saved.parent.iterdir()) == [saved]


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MetaModel.load(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError):
        MetaModel.fit(matrix_of(low_rank(4, 5, 2))).save(tmp_path / "none" / "meta.npz")


def test_a_truncated_file_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for length in range(0, len(content), 7):
        saved.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"meta\.npz"):
            MetaModel.load(saved)


def test_a_flipped_bit_is_noticed_or_harmless(saved: Path) -> None:
    # Archives have bytes without meaning, such as time stamps: those may change.
    meta, content = MetaModel.load(saved), saved.read_bytes()
    positions, noticed = range(0, len(content), 3), 0
    for position in positions:
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        saved.write_bytes(flipped)
        try:
            loaded = MetaModel.load(saved)
        except ValueError:
            noticed += 1
        else:
            assert_same(loaded, meta)
    assert noticed > len(positions) / 2


def entries(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def rewrite(path: Path, changed: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **changed)


def test_no_entry_is_pickled(saved: Path) -> None:
    assert {array.dtype.kind for array in entries(saved).values()} == {"u", "f"}


def test_the_header_says_what_the_file_is(saved: Path) -> None:
    header = json.loads(entries(saved)["header"].tobytes())
    assert header["format"] == "optuna_peppp.MetaModel"
    assert header["version"] == 5
    assert np.array_equal(entries(saved)["memory"], np.ones((4, 5)))
    assert header["committee"] == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1])
    assert header["choices"] == [["configuration", [0, 1, 2, 3, 4]]]
    assert header["tasks"] == ["task 0", "task 1", "task 2", "task 3"]
    assert header["transform"] in get_args(Transform)
    assert header["ranks"] == [2, 3]


def test_a_model_of_an_earlier_version_is_refused(saved: Path) -> None:
    # As optuna_peppp wrote them before it learned a prior.
    arrays, header = entries(saved), json.loads(entries(saved)["header"].tobytes())
    names = ("errors", "embeddings", "mean", "noise")
    old = archive.Format("optuna_peppp.MetaModel", version=2)
    told = {name: header[name] for name in ("choices", "tasks", "selection")}
    archive.write(saved, old, told, {name: arrays[name] for name in names})
    with pytest.raises(
        ValueError,
        match=r"meta\.npz has format version 2; this .* reads version 5\..*fit the model again",
    ):
        MetaModel.load(saved)


@pytest.mark.parametrize(
    "name",
    [
        *("errors", "embeddings", "mean", "noise"),
        *("prior_mean", "prior_loadings", "prior_noise", "prior_scales", "prior_weights"),
    ],
)
def test_changed_and_missing_arrays_are_refused(saved: Path, name: str) -> None:
    arrays = entries(saved)
    # One bit of its bytes, which stand there as they are.
    content, held = saved.read_bytes(), arrays[name].tobytes("A")
    place = content.index(held) + len(held) // 2
    flipped = bytes([content[place] ^ 1])
    saved.write_bytes(content[:place] + flipped + content[place + 1 :])
    with pytest.raises(ValueError, match=r"or it is damaged \(BadZipFile\)"):
        MetaModel.load(saved)
    rewrite(saved, {**arrays, name: arrays[name].T[..., np.newaxis]})
    with pytest.raises(ValueError, match=r"must (be finite with|have) shape"):
        MetaModel.load(saved)
    del arrays[name]
    rewrite(saved, arrays)
    with pytest.raises(ValueError, match=f"is damaged: it lacks {name};"):
        MetaModel.load(saved)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 6}, "has format version 6; this optuna_peppp reads version 5. Upgrade"),
        ({"format": "other.Model"}, "holds 'other.Model', not 'optuna_peppp.MetaModel'"),
        ({"tasks": ["renamed"] * 5}, "errors must be finite with shape"),
        ({"ranks": [3, 3]}, "prior_loadings must have shape"),
        ({"transform": "probit"}, "transform must be one of"),
        ({"committee": [1, 1, 1]}, "committee must be a weight of each of posterior, aligned"),
        ({"committee": [0, 0, 0, 0]}, "committee must be"),
        ({"committee": [1, 1, 1, -1]}, "committee must be"),
        ({"committee": [True, 1, 1, 1]}, "committee must be"),
        ({"farthest": 0}, "farthest must be a positive number, or nothing"),
    ],
)
def test_other_headers_are_refused(saved: Path, change: dict[str, Any], problem: str) -> None:
    arrays = entries(saved)
    header = {**json.loads(arrays["header"].tobytes()), **change}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    rewrite(saved, arrays)
    with pytest.raises(ValueError, match=problem):
        MetaModel.load(saved)


@pytest.mark.parametrize("version", [3, 4])
def test_without_a_committee_all_members_vote(saved: Path, version: int) -> None:
    arrays = entries(saved)
    header = json.loads(arrays["header"].tobytes())
    del header["committee"], header["farthest"], arrays["memory"]
    header["version"] = version
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    rewrite(saved, arrays)
    loaded = MetaModel.load(saved)
    committee = loaded.committee
    assert loaded.memory is None
    assert np.array_equal(committee.weights, EVERYONE.weights)
    assert committee.farthest == np.inf


class Trap:
    """Fails the test if a pickle of it is ever loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    plain, archive, objects = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(plain, np.arange(3))
    np.savez(archive, x=np.arange(3))
    np.savez(objects, header=np.array([Trap()], dtype=object))
    for content in (
        b"",
        b"task,error\n",
        hashlib.sha256().digest() * 100,
        pickle.dumps(Trap()),
        plain.getvalue(),
        archive.getvalue(),
        objects.getvalue(),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is not a file of MetaModel\.save, or it is damaged"):
            MetaModel.load(path)
