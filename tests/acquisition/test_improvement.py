from __future__ import annotations

import tracemalloc

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from optuna_peppp.acquisition.improvement import (
    expected_hypervolume_improvement,
    feared,
    variance_reduction,
    worth,
)
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.posterior import Moments
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.pareto import reference

Array = NDArray[np.float64]

# A small grid gives equal memories, equal errors and dominated points all the time.
memories = st.lists(st.integers(1, 6).map(float), min_size=2, max_size=8)
points = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 10).map(lambda i: i / 10)), max_size=6
)


def ehvi(
    memory: ArrayLike, mean: ArrayLike, std: ArrayLike, measured: ArrayLike = ()
) -> NDArray[np.float64]:
    """With measurements as pairs (memory, error), and means and deviations that broadcast."""
    all_memory = np.array(memory, dtype=np.float64)
    pairs = np.array(measured, dtype=np.float64).reshape(-1, 2)
    wide = np.zeros_like(all_memory)
    return expected_hypervolume_improvement(
        all_memory, wide + np.array(mean), wide + np.array(std), pairs[:, 0], pairs[:, 1]
    )


def dominated(pairs: Array, bounds: tuple[float, float]) -> float:
    """moocore takes no empty set."""
    return float(moocore.hypervolume(pairs, ref=np.array(bounds))) if len(pairs) else 0.0


def pairs_of(memory: list[float], measured: list[tuple[int, float]]) -> Array:
    """Measurements of configurations that there are."""
    pairs = [(memory[j % len(memory)], error) for j, error in measured]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def some_prior(seed: int, d: int = 6) -> TaskPrior:
    rng = np.random.default_rng(seed)
    models = tuple(
        FactorModel(
            rng.uniform(0.2, 0.8, d), rng.normal(size=(d, k)) * 0.1, rng.uniform(0.01, 0.1, d)
        )
        for k in (1, 3)
    )
    return TaskPrior(models, np.array([[1, 1], [2, 0.5]]), np.full((2, 2), 0.25))


def one_model(mean: ArrayLike, loadings: ArrayLike, noise: ArrayLike) -> TaskPrior:
    model = FactorModel(np.array(mean), np.array(loadings), np.array(noise))
    return TaskPrior((model,), np.ones((1, 2)), np.ones((1, 1)))


def some_moments(seed: int) -> Moments:
    return some_prior(seed).condition([0, 2], [0.4, 0.5]).moments()


def test_reference_by_hand() -> None:
    assert reference(np.array([10.0, 0.0, 4.0])) == (10.5, 1.0)
    assert reference(np.array([4.0, 4.0])) == (4.2, 1.0)


def test_improvement_by_hand() -> None:
    # The staircase is 1 up to 2, then 0.5 up to 6, then 0.2 up to the reference at 10.5.
    # An error of 0.3 at 1 gains 1 * 0.7 + 4 * 0.2, at 4 it gains 2 * 0.2, at 6 nothing.
    gains = ehvi([1, 4, 6, 10, 0], 0.3, 1e-9, [(2, 0.5), (6, 0.2), (10, 0.4)])
    assert gains == pytest.approx([1.5, 0.4, 0, 0, 2.2])


def test_uncertain_improvement_by_hand() -> None:
    # Nothing measured, and the mean is the reference: std / sqrt(2 pi) over a width of 0.2.
    assert ehvi([4, 4], 1.0, 0.1) == pytest.approx([0.02 / np.sqrt(2 * np.pi)] * 2)


@settings(deadline=None)
@given(memories, points, st.integers(0, 10))
def test_certain_errors_gain_what_moocore_says(
    memory: list[float], measured: list[tuple[int, float]], tenths: int
) -> None:
    pairs, error = pairs_of(memory, measured), tenths / 10
    bounds = reference(np.array(memory))
    before = dominated(pairs, bounds)
    gains = [dominated(np.vstack((pairs, (m, error))), bounds) - before for m in memory]
    assert ehvi(memory, error, 1e-12, pairs) == pytest.approx(gains, abs=1e-9)


@settings(deadline=None, max_examples=10)
@given(memories, points, st.floats(0.1, 0.9), st.floats(0.02, 0.3))
def test_expected_gains_are_means_of_gains(
    memory: list[float], measured: list[tuple[int, float]], mean: float, std: float
) -> None:
    pairs, bounds = pairs_of(memory, measured), reference(np.array(memory))
    # Draws at evenly spaced quantiles, which need be fewer than random ones.
    errors = stats.norm(mean, std).ppf((np.arange(500) + 0.5) / 500)
    before = dominated(pairs, bounds)
    expected = [
        np.mean([dominated(np.vstack((pairs, (m, e))), bounds) - before for e in errors])
        for m in memory
    ]
    assert ehvi(memory, mean, std, pairs) == pytest.approx(expected, rel=5e-3, abs=2e-3 * std)


def test_expected_gain_is_that_of_random_draws() -> None:
    memory, measured = [1.0, 3.0, 5.0], np.array([(2, 0.6), (4, 0.35)])
    draws = np.random.default_rng(0).normal(0.5, 0.2, 20_000)
    bounds = reference(np.array(memory))
    before = dominated(measured, bounds)
    for m, found in zip(memory, ehvi(memory, 0.5, 0.2, measured), strict=True):
        gains = [dominated(np.vstack((measured, (m, e))), bounds) - before for e in draws]
        assert abs(np.mean(gains) - found) < 4 * np.std(gains) / np.sqrt(len(draws))


@settings(deadline=None)
@given(memories, points, st.floats(0, 1), st.floats(0.01, 0.5), st.floats(0.1, 1e9))
def test_gains_scale_with_memory(
    memory: list[float],
    measured: list[tuple[int, float]],
    mean: float,
    std: float,
    factor: float,
) -> None:
    pairs = pairs_of(memory, measured)
    scaled = ehvi(np.array(memory) * factor, mean, std, pairs * [factor, 1])
    assert scaled == pytest.approx(factor * ehvi(memory, mean, std, pairs), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(memories, points, st.floats(0, 1), st.floats(0.01, 0.5), st.data())
def test_gains_grow_with_promise_and_fall_with_what_is_known(
    memory: list[float],
    measured: list[tuple[int, float]],
    mean: float,
    std: float,
    data: st.DataObject,
) -> None:
    pairs = pairs_of(memory, measured)
    gains = ehvi(memory, mean, std, pairs)
    slack = 1e-12
    assert (gains >= 0).all()
    assert (ehvi(memory, mean - 0.1, std, pairs) >= gains - slack).all()
    assert (ehvi(memory, mean, std + 0.1, pairs) >= gains - slack).all()
    further = data.draw(st.lists(st.sampled_from(range(len(memory))), min_size=1, max_size=3))
    more = np.vstack((pairs, [(memory[j], 0.3) for j in further]))
    assert (ehvi(memory, mean, std, more) <= gains + slack).all()
    # Where all is equal but memory, less is better.
    order = np.argsort(memory)
    assert (np.diff(gains[order]) <= slack).all()


@settings(deadline=None)
@given(memories, points)
def test_order_and_repeats_of_measurements_do_not_matter(
    memory: list[float], measured: list[tuple[int, float]]
) -> None:
    pairs = pairs_of(memory, measured)
    again = np.vstack((pairs[::-1], pairs))
    assert np.array_equal(ehvi(memory, 0.5, 0.1, again), ehvi(memory, 0.5, 0.1, pairs))


def test_of_equal_memories_the_lowest_error_counts() -> None:
    several = ehvi([1, 2, 3], 0.4, 0.1, [(2, 0.6), (2, 0.3), (2, 0.9)])
    assert np.array_equal(several, ehvi([1, 2, 3], 0.4, 0.1, [(2, 0.3)]))
    assert len(set(ehvi([1, 2, 2, 3], 0.4, 0.1)[1:3])) == 1


def test_the_largest_memory_has_the_margin_to_gain_in() -> None:
    assert ehvi([0, 10], 0.4, 1e-9)[1] == pytest.approx(0.5 * 0.6)
    assert ehvi([0, 10], 0.4, 1e-9, [(10, 0.5)])[1] == pytest.approx(0.5 * 0.1)
    # A measurement there leaves the gain of smaller memories.
    assert ehvi([0, 10], 0.4, 1e-9, [(10, 0.5)])[0] == pytest.approx(10 * 0.6 + 0.5 * 0.1)


@pytest.mark.parametrize("seed", range(5))
def test_variance_reduction_is_that_of_dense_conditioning(seed: int) -> None:
    moments = some_moments(seed)
    signal = moments.directions @ moments.latent @ moments.directions.T
    for j, found in enumerate(variance_reduction(moments)):
        # The joint Gaussian of all signals and the measurement of one.
        measurement = signal[j, j] + moments.noise[j]
        after = signal - np.outer(signal[j], signal[j]) / measurement
        assert found == pytest.approx(np.trace(signal) - np.trace(after))


def test_variance_reduction_is_what_a_measurement_then_does() -> None:
    rng = np.random.default_rng(0)
    model = FactorModel(np.full(8, 0.5), rng.normal(size=(8, 3)), rng.uniform(0.1, 2, 8))
    prior = TaskPrior((model,), np.array([[1.5, 0.7]]), np.ones((1, 1)))
    moments = prior.condition([3, 5], [0.1, 0.6]).moments()
    for j in (0, 1, 2, 4, 6, 7):
        after = prior.condition([3, 5, j], [0.1, 0.6, 0.9]).moments()
        lost = moments.signal.sum() - after.signal.sum()
        assert variance_reduction(moments)[j] == pytest.approx(lost)


def test_variance_reduction_by_hand() -> None:
    # Signals 1, 2 and 0 times one latent of variance 4; S = 4 (1, 2, 0)' (1, 2, 0).
    moments = Moments(
        mean=np.zeros(3),
        signal=np.array([4.0, 16.0, 0.0]),
        noise=np.array([4.0, 4.0, 1.0]),
        spreads=((np.array([[1.0], [2.0], [0.0]]), np.array([[4.0]])),),
    )
    assert variance_reduction(moments) == pytest.approx([16 * 5 / 8, 64 * 5 / 20, 0])


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_no_measurement_takes_more_than_there_is(seed: int) -> None:
    moments = some_moments(seed)
    reduction = variance_reduction(moments)
    assert (reduction >= 0).all()
    assert (reduction <= moments.signal.sum() + 1e-12).all()


EVERYWHERE = np.ones(6, dtype=bool)


@pytest.mark.parametrize("images", [None, 30])
def test_where_all_may_be_measured_the_frontier_is_improved(images: int | None) -> None:
    prior, memory = some_prior(1), np.arange(1.0, 7)
    found = worth(prior, memory, EVERYWHERE, [0, 2], [0.4, 0.5], test_images=images)
    moments = prior.condition([0, 2], [0.4, 0.5], test_images=images).moments()
    growth = ehvi(memory, moments.mean, moments.std, [(1, 0.4), (3, 0.5)])
    assert found == pytest.approx(growth * np.sqrt(moments.signal))


@pytest.mark.parametrize("infeasible", range(6))
def test_where_some_may_not_be_measured_the_others_inform_about_them(infeasible: int) -> None:
    prior, feasible = some_prior(1), np.arange(6) != infeasible
    found = worth(prior, np.arange(1.0, 7), feasible, [0, 2], [0.4, 0.5])
    assert found == pytest.approx(variance_reduction(some_moments(1)))
    # Memory has no say.
    other = worth(prior, np.arange(6.0, 0, -1), feasible, [0, 2], [0.4, 0.5])
    assert np.array_equal(found, other)


def test_the_two_purposes_prefer_different_configurations() -> None:
    # The first tells most about all, the last is promising.
    prior = one_model([0.9, 0.9, 0.2], [[0.02], [0.02], [0.01]], [1e-6, 1e-4, 1e-4])
    memory = np.array([3.0, 2.0, 1.0])
    assert worth(prior, memory, np.array([True, True, True]), [], []).argmax() == 2
    assert worth(prior, memory, np.array([True, True, False]), [], []).argmax() == 0


@pytest.mark.parametrize(("mean", "improves"), [(0.47, True), (0.49, False)])
def test_a_thousandth_of_the_area_is_worth_a_measurement(mean: float, improves: bool) -> None:
    # At memory 10 an error below the measured 0.5 counts over a width of 0.5; a thousandth is 0.01.
    prior = one_model([0.5, mean, 0.9], np.full((3, 1), 1e-6), np.full(3, 1e-12))
    memory, feasible = np.array([0.0, 10.0, 5.0]), np.ones(3, dtype=bool)
    found = worth(prior, memory, feasible, [0], [0.5])
    moments = prior.condition([0], [0.5]).moments()
    growth = ehvi(memory, moments.mean, moments.std, [(0, 0.5)])
    assert growth[1] == pytest.approx(0.5 * (0.5 - mean), rel=1e-3)
    expected = growth * np.sqrt(moments.signal) if improves else variance_reduction(moments)
    assert found == pytest.approx(expected)


def test_what_was_measured_is_no_reason_to_go_on() -> None:
    # Measuring the first again might well improve on it by luck; nothing else can.
    prior = one_model([0.2, 0.9, 0.9], np.full((3, 1), 0.01), [0.01, 1e-6, 1e-6])
    memory, feasible = np.arange(3.0), np.ones(3, dtype=bool)
    moments = prior.condition([0], [0.2]).moments()
    assert ehvi(memory, moments.mean, moments.std, [(0, 0.2)])[0] > 0.01
    found = worth(prior, memory, feasible, [0], [0.2])
    assert found == pytest.approx(variance_reduction(moments))
    everything = worth(prior, memory, feasible, [0, 1, 2], [0.2, 0.9, 0.9])
    moments = prior.condition([0, 1, 2], [0.2, 0.9, 0.9]).moments()
    assert everything == pytest.approx(variance_reduction(moments))


def test_of_equal_promises_the_less_known_is_measured() -> None:
    # The same mean and variance of a measurement, which is signal to one fifth and to four.
    prior = one_model([0.5, 0.5], [[0.1], [0.2]], [0.04, 0.01])
    first, second = worth(prior, np.ones(2), np.ones(2, dtype=bool), [], [])
    assert second == pytest.approx(2 * first)


@pytest.mark.parametrize("capped", [False, True])
def test_what_is_being_measured_counts_with_the_errors_that_are_expected(capped: bool) -> None:
    prior, memory, feasible = some_prior(2), np.arange(1.0, 7), EVERYWHERE.copy()
    feasible[5] = not capped
    moments = prior.condition([0], [0.7], test_images=50).moments()
    expected = worth(
        prior, memory, feasible, [0, 3, 1], [0.7, *moments.mean[[3, 1]]], test_images=50
    )
    found = worth(prior, memory, feasible, [0], [0.7], live=[3, 1], test_images=50)
    assert found == pytest.approx(expected)
    alone = worth(prior, memory, feasible, [0], [0.7], test_images=50)
    assert (found[[1, 3]] < alone[[1, 3]]).all()


def test_expected_errors_that_cannot_be_are_clipped() -> None:
    prior = one_model([1.2, -0.1, 0.5], [[0.1], [0.1], [0.1]], [0.01, 0.01, 0.01])
    memory, feasible = np.arange(1.0, 4), np.ones(3, dtype=bool)
    found = worth(prior, memory, feasible, [], [], live=[0, 1])
    assert found == pytest.approx(worth(prior, memory, feasible, [0, 1], [1.0, 0.0]))


def test_ten_thousand_configurations_need_no_square_matrix() -> None:
    d, rng = 10_000, np.random.default_rng(0)
    prior = one_model(rng.random(d), rng.normal(size=(d, 5)), np.ones(d))
    memory, where = rng.random(d), rng.permutation(d)[:100]
    feasible = np.ones(d, dtype=bool)
    tracemalloc.start()
    for last in (True, False):
        feasible[-1] = last
        worth(prior, memory, feasible, where, rng.random(100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Some numbers per configuration and step of the frontier; not ten thousand.
    assert peak < 500 * d * 8


# Large spaces, block by block


def test_improvements_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    d, m = 10**5, 100
    memory, mean, std = np.sort(rng.uniform(1, 2, d)), rng.uniform(0, 1, d), rng.uniform(0, 1, d)
    where, errors = np.linspace(0, d - 1, m, dtype=int), np.linspace(0.9, 0.1, m)
    growth = expected_hypervolume_improvement(memory, mean, std, memory[where], errors)
    # The reference hangs on the smallest and the largest memory.
    for some in np.split(rng.permutation(np.arange(1, d - 1))[:9000], 9):
        part = np.array([0, *some, d - 1])
        expected = expected_hypervolume_improvement(
            memory[part], mean[part], std[part], memory[where], errors
        )
        np.testing.assert_allclose(growth[part], expected, rtol=1e-12)


def test_variance_reductions_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    d, k = 30_000, 200
    loadings, latent = rng.normal(size=(d, k)), np.diag(rng.uniform(0.1, 1, k))
    signal = np.einsum("jk,kl,jl->j", loadings, latent, loadings, optimize=True)
    moments = Moments(np.full(d, 0.5), signal, np.ones(d), ((loadings, latent),))
    for some in (0, 17, d - 1):
        covariance = loadings @ (latent @ loadings[some])
        expected = covariance @ covariance / (signal[some] + 1)
        np.testing.assert_allclose(variance_reduction(moments)[some], expected, rtol=1e-9)


# What is feared to fail


@pytest.mark.parametrize(
    ("measured", "failed", "expected"),
    [
        ([], [], []),
        ([], [3], []),
        ([], [3, 5], [3, 5]),
        ([], [0, 3], [0, 1, 2, 3, 4, 5]),
        ([1], [0, 3], []),
        ([1], [3, 5], [3, 5]),
        ([4], [3, 5], [3, 5]),
        ([3], [4, 5], []),  # one alone needs more than what was measured
        ([5], [3, 4], []),
    ],
)
def test_feared(measured: list[int], failed: list[int], expected: list[int]) -> None:
    memory = np.array([1.0, 2.0, 3.0, 5.0, 4.0, 6.0])
    mask = feared(memory, np.array(measured, dtype=int), np.array(failed, dtype=int))
    assert np.flatnonzero(mask).tolist() == expected
