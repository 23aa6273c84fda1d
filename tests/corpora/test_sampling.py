"""Sampling schemes of meta-training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optuna_peppp.corpora.sampling import inverse_probability, plan, probabilities

memories = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 8)),
    elements=st.integers(1, 5).map(float),
)


def test_uniform_probabilities_are_the_fraction() -> None:
    np.testing.assert_array_equal(probabilities(np.ones((2, 3)), 0.2), np.full((2, 3), 0.2))


def test_by_memory_the_cheapest_has_p_max_and_the_rest_its_share_of_the_ranks() -> None:
    # Four ranks 4, 3, 2, 1 of 1 / M; their mean is 2.5 / 4, so that p_max is 0.5 / 0.625.
    chances = probabilities([[10, 40], [30, 20]], 0.5, "memory")
    np.testing.assert_allclose(chances, [[0.8, 0.2], [0.4, 0.6]])


@settings(deadline=None)
@given(memory=memories, fraction=st.floats(0.01, 0.5))
def test_cheaper_entries_are_likelier_and_the_mean_is_the_fraction(
    memory: np.ndarray[Any, np.dtype[np.float64]], fraction: float
) -> None:
    chances = probabilities(memory, fraction, "memory")
    assert ((chances > 0) & (chances <= 1)).all()
    assert chances.mean() == pytest.approx(fraction)
    difference = np.sign(memory.ravel()[:, None] - memory.ravel())
    np.testing.assert_array_equal(np.sign(chances.ravel()[:, None] - chances.ravel()), -difference)


def test_sigma_is_the_empirical_distribution_function() -> None:
    memory = np.random.default_rng(0).integers(1, 20, (5, 7)).astype(float)
    chances = probabilities(memory, 0.2, "memory")
    inverse = 1 / memory
    share = np.array([[np.mean(inverse <= value) for value in row] for row in inverse])
    np.testing.assert_allclose(chances / chances.max(), share)


@pytest.mark.parametrize("scheme", ["uniform", "memory"])
def test_the_plan_draws_with_these_probabilities(scheme: Any) -> None:
    memory = np.random.default_rng(0).uniform(1, 5, (6, 4))
    chances = probabilities(memory, 0.3, scheme)
    draws = np.mean([plan(memory, 0.3, scheme, seed) for seed in range(4000)], axis=0)
    # What chance leaves out is added to the cheapest task of a configuration.
    added = np.zeros_like(chances)
    never = np.prod(1 - chances, axis=0)
    added[memory.argmin(axis=0), range(4)] = never
    np.testing.assert_allclose(draws, chances + added, atol=4 * np.sqrt(0.25 / 4000))


@settings(deadline=None)
@given(memory=memories, seed=st.integers(0, 99))
def test_every_configuration_is_planned_and_a_seed_fixes_the_plan(
    memory: np.ndarray[Any, np.dtype[np.float64]], seed: int
) -> None:
    drawn = plan(memory, 0.01, "memory", seed)
    assert drawn.any(axis=0).all()
    np.testing.assert_array_equal(drawn, plan(memory, 0.01, "memory", seed))


def test_left_out_configurations_are_spread_over_equal_tasks() -> None:
    drawn = plan(np.ones((3, 9)), 1e-9)
    np.testing.assert_array_equal(drawn.sum(axis=1), [3, 3, 3])


def test_everything_can_be_planned() -> None:
    assert plan(np.ones((3, 4)), 1.0).all()


def test_weights_undo_the_sampling() -> None:
    memory = np.random.default_rng(0).uniform(1, 9, (20, 30))
    chances = probabilities(memory, 0.4, "memory")
    weights = inverse_probability(chances)
    assert weights.max() == 1
    # Horvitz and Thompson: every entry counts as much as any other, on average over samples.
    assert (weights * chances) / chances.min() == pytest.approx(np.ones_like(chances))


@pytest.mark.parametrize(
    ("memory", "fraction", "scheme", "problem"),
    [
        ([[1, 2]], 0.2, "random", "scheme must be one of 'uniform', 'memory'; got 'random'"),
        ([1, 2], 0.2, "uniform", r"memory must be a matrix of positive numbers.*\(2,\)"),
        ([[1, 0]], 0.2, "uniform", "positive numbers.*smallest 0.0"),
        ([[1, np.nan]], 0.2, "uniform", "positive numbers"),
        ([[1, 2]], 0, "uniform", "fraction must be above 0 and at most 1 with.*got 0"),
        ([[1, 2]], 1.1, "uniform", "at most 1 with the scheme 'uniform'; got 1.1"),
        ([[1, 2]], 0.8, "memory", "at most 0.75 with the scheme 'memory'; got 0.8"),
        ([[1, 2]], np.nan, "uniform", "fraction must be above 0"),
    ],
)
def test_bad_plans_are_refused(memory: Any, fraction: float, scheme: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        plan(memory, fraction, scheme)


@pytest.mark.parametrize("chances", [[[0.0, 0.5]], [[1.5]], [[np.nan]], []])
def test_bad_probabilities_are_refused(chances: Any) -> None:
    with pytest.raises(ValueError, match="chances must be probabilities"):
        inverse_probability(chances)
