from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.acquisition import improvement
from optuna_peppp.acquisition.improvement import feared, variance_reduction
from optuna_peppp.growth import expected_growth
from optuna_peppp.meta.committee import EVERYONE, Committee, expected, portfolio_growth
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.posterior import Moments
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.worlds import Worlds

Array = NDArray[np.float64]


def ehvi(
    memory: ArrayLike, mean: ArrayLike, std: ArrayLike, measured: ArrayLike = ()
) -> NDArray[np.float64]:
    """With measurements as pairs (memory, error), and means and deviations that broadcast."""
    all_memory = np.array(memory, dtype=np.float64)
    pairs = np.array(measured, dtype=np.float64).reshape(-1, 2)
    wide = np.zeros_like(all_memory)
    return expected_growth(
        all_memory, wide + np.array(mean), wide + np.array(std), pairs[:, 0], pairs[:, 1]
    )


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


def worth(
    prior: TaskPrior,
    memory: Array,
    feasible: NDArray[np.bool_],
    indices: ArrayLike,
    errors: ArrayLike,
    *,
    worlds: Worlds | None = None,
    committee: Committee = EVERYONE,
    live: ArrayLike = (),
    test_images: int | None = None,
) -> Array:
    """All may be chosen; without past tasks unless worlds are given."""
    everything = np.ones(len(memory), dtype=np.bool_)
    return improvement.worth(
        prior,
        worlds,
        committee,
        memory,
        feasible,
        everything,
        indices,
        errors,
        live=live,
        test_images=test_images,
    )


def some_moments(seed: int) -> Moments:
    return some_prior(seed).condition([0, 2], [0.4, 0.5]).moments()


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
def test_without_past_tasks_the_frontier_is_improved_where_all_may_be_measured(
    images: int | None,
) -> None:
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


def test_without_past_tasks_the_less_known_of_equal_promises_is_measured() -> None:
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


# With past tasks

PAST = Worlds.of(np.random.default_rng(3).uniform(0.1, 0.9, (7, 6)))


def test_before_anything_is_measured_the_portfolio_decides() -> None:
    memory = np.arange(1.0, 7)
    found = worth(some_prior(1), memory, EVERYWHERE, [], [], worlds=PAST)
    grown = portfolio_growth(PAST, memory, np.empty(0, dtype=np.intp))
    assert found == pytest.approx(grown / grown.max())
    without = Committee.voting({"posterior"})
    found = worth(some_prior(1), memory, EVERYWHERE, [], [], worlds=PAST, committee=without)
    assert found == pytest.approx(grown / grown.max())


def test_all_members_vote_on_the_mean_of_repeats() -> None:
    memory, prior = np.arange(1.0, 7), some_prior(1)
    found = worth(prior, memory, EVERYWHERE, [2, 0, 2], [0.3, 0.5, 0.5], worlds=PAST)
    indices, errors = np.array([0, 2]), np.array([0.5, 0.4])
    moments = prior.condition(indices, errors).moments()
    members = expected(PAST, moments, memory, indices, errors)
    assert len(members) == 4
    assert found == pytest.approx(EVERYONE.votes(members, EVERYWHERE))


def test_where_a_cap_hides_something_past_tasks_do_not_vote() -> None:
    feasible = np.arange(6) != 5
    found = worth(some_prior(1), np.arange(1.0, 7), feasible, [0, 2], [0.4, 0.5], worlds=PAST)
    assert found == pytest.approx(variance_reduction(some_moments(1)))


# Large spaces, block by block


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
