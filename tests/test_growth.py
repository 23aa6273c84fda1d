from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from optuna_peppp.growth import expected_growth, growth
from optuna_peppp.pareto import hypervolume, reference

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
    return expected_growth(
        all_memory, wide + np.array(mean), wide + np.array(std), pairs[:, 0], pairs[:, 1]
    )


def dominated(pairs: Array, bounds: tuple[float, float]) -> float:
    """moocore takes no empty set."""
    return float(moocore.hypervolume(pairs, ref=np.array(bounds))) if len(pairs) else 0.0


def pairs_of(memory: list[float], measured: list[tuple[int, float]]) -> Array:
    """Measurements of configurations that there are."""
    pairs = [(memory[j % len(memory)], error) for j, error in measured]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


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


def test_improvements_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    d, m = 10**5, 100
    memory, mean, std = np.sort(rng.uniform(1, 2, d)), rng.uniform(0, 1, d), rng.uniform(0, 1, d)
    where, errors = np.linspace(0, d - 1, m, dtype=int), np.linspace(0.9, 0.1, m)
    growth = expected_growth(memory, mean, std, memory[where], errors)
    # The reference hangs on the smallest and the largest memory.
    for some in np.split(rng.permutation(np.arange(1, d - 1))[:9000], 9):
        part = np.array([0, *some, d - 1])
        expected = expected_growth(memory[part], mean[part], std[part], memory[where], errors)
        np.testing.assert_allclose(growth[part], expected, rtol=1e-12)


@settings(deadline=None)
@given(memories, points, st.integers(0, 1000))
def test_growth_in_worlds_is_that_of_the_dominated_area(
    memory: list[float], measured: list[tuple[int, float]], seed: int
) -> None:
    """Whether all worlds share the measured errors or each has its own."""
    rng = np.random.default_rng(seed)
    d, at = len(memory), pairs_of(memory, measured)[:, 0]
    needed, worlds, bounds = np.array(memory), rng.random((3, d)), reference(np.array(memory))
    for errors in (rng.random((3, len(at))), rng.random((1, len(at)))):
        found = growth(needed, worlds, at, errors)
        for world in range(3):
            pairs = np.column_stack((at, errors[world % len(errors)]))
            before = hypervolume(pairs, bounds)
            after = [
                hypervolume(np.vstack((pairs, (needed[j], worlds[world, j]))), bounds)
                for j in range(d)
            ]
            assert found[world] == pytest.approx(np.array(after) - before, abs=1e-12)
