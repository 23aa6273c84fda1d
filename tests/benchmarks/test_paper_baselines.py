from __future__ import annotations

from itertools import combinations
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from benchmarks.paper import baselines
from optuna_peppp import ConfigurationSpace, MetaModel
from optuna_peppp.acquisition.design import random_order
from optuna_peppp.acquisition.strategies import Progress
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.prior import TaskPrior

D = 12


@pytest.fixture
def meta() -> MetaModel:
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.2, 0.8, (6, 2)) @ rng.uniform(0.2, 0.6, (2, D))
    right = np.linalg.svd(errors, full_matrices=False)[2]
    mean = errors.mean(axis=0)
    # Nothing here asks for it.
    factors = FactorModel(mean, right[:1].T, np.ones(D))
    # Of the scale of the kernel, so that it tells configurations apart.
    return MetaModel(
        ConfigurationSpace({"configuration": range(D)}),
        tuple(f"task {i}" for i in range(6)),
        30 * errors,
        60 * right[:2].T,
        mean,
        np.zeros(D),
        TaskPrior((factors,), scales=np.ones((1, 2)), weights=np.ones((1, 1))),
    )


def progress(
    meta: MetaModel,
    feasible: NDArray[np.bool_],
    indices: list[int],
    errors: list[float],
    seed: int,
) -> Progress:
    return Progress(meta, np.ones(D), np.ones(D, dtype=np.bool_), feasible, indices, errors, seed)


# Bayesian optimization


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.1), (0.2, 1.0), (0.9, 0.05), (-0.1, 0.3)])
def test_expected_improvement_is_the_integral_of_improvements(mean: float, std: float) -> None:
    best, xi = 0.4, 0.01
    # Below best - xi; beyond 12 standard deviations there is nothing.
    low = min(mean, best) - 12 * std
    integral, _ = quad(
        lambda f: (best - xi - f) * norm.pdf(f, mean, std), low, best - xi, epsabs=1e-12
    )
    assert baselines.expected_improvement([mean], [std], best)[0] == pytest.approx(
        integral, abs=1e-10
    )


def posterior(
    points: NDArray[np.float64], indices: list[int], errors: list[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of a new measurement everywhere, from the definition."""
    squares = np.square(points[:, None] - points[None]).sum(axis=2)
    kernel = np.exp(-squares / (2 * 20.0**2))
    inverse = np.linalg.inv(kernel[np.ix_(indices, indices)] + np.eye(len(indices)))
    cross = kernel[:, indices]
    variance = 1 + 1 - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    return cross @ inverse @ np.array(errors), np.sqrt(variance)


@pytest.mark.parametrize("features", ["embeddings", "errors"])
@pytest.mark.parametrize("ascending", [False, True])
def test_bayesian_optimization_takes_an_extreme_of_the_improvement(
    meta: MetaModel, features: Literal["embeddings", "errors"], ascending: bool
) -> None:
    strategy = baselines.BayesianOptimization(features, ascending)
    feasible = np.arange(D) != 3
    indices, errors = [0, 1, 2, 5, 7, 8], [0.9, 0.7, 0.4, 0.6, 0.5, 0.8]
    points = meta.embeddings if features == "embeddings" else meta.errors.T
    mean, std = posterior(points, indices, errors)
    gains = baselines.expected_improvement(mean, std, 0.4)
    candidates = [4, 6, 9, 10, 11]
    expected = sorted(candidates, key=lambda j: gains[j])[0 if ascending else -1]
    assert strategy(progress(meta, feasible, indices, errors, seed=0)) == expected


def test_the_named_strategies_are_the_texts_and_the_runs() -> None:
    strategies = {**baselines.BAYESIAN, **baselines.BAYESIAN_ASCENDING}
    choices: dict[str, Any] = {name: strategy.choose for name, strategy in strategies.items()}
    assert {name: (c.features, c.ascending) for name, c in choices.items()} == {
        "bo-mf": ("embeddings", False),
        "bo-full": ("errors", False),
        "bo-mf-ascending": ("embeddings", True),
        "bo-full-ascending": ("errors", True),
    }


def test_bayesian_optimization_starts_as_random_mf_and_repeats_nothing(meta: MetaModel) -> None:
    strategy = baselines.BAYESIAN["bo-mf"]
    feasible = np.ones(D, dtype=np.bool_)
    feasible[[2, 4]] = False
    indices: list[int] = []
    for _ in range(feasible.sum()):
        errors = [0.1 * index / D for index in indices]
        indices.append(strategy.choose(progress(meta, feasible, indices, errors, seed=7)))
    assert indices[:5] == random_order(D, 7, feasible)[:5]
    assert sorted(indices) == np.flatnonzero(feasible).tolist()


# The highest memory


def test_the_highest_memory_is_any_of_the_largest_that_are_allowed() -> None:
    memory = np.array([1.0, 5.0, 5.0 * (1 + 1e-15), 4.9, 9.0])
    feasible = memory < 6
    chosen = {baselines.highest_memory(memory, feasible, seed) for seed in range(50)}
    assert chosen == {1, 2}


# Convex designs


def determinant(vectors: NDArray[np.float64], shares: NDArray[np.float64]) -> float:
    return float(np.linalg.slogdet((vectors.T * shares) @ vectors)[1])


@given(seed=st.integers(0, 1000), count=st.integers(3, 8), scale=st.sampled_from([0.01, 1.0, 50.0]))
def test_the_relaxation_meets_its_optimality_conditions(
    seed: int, count: int, scale: float
) -> None:
    vectors = scale * np.random.default_rng(seed).normal(size=(15, 3))
    design = baselines.convex_design(vectors, count)
    shares = design.shares
    assert design.converged
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.sum() == pytest.approx(count, rel=1e-6)
    # Of log det, the slope in v_j is y_j' X^-1 y_j: equal where 0 < v_j < 1, to a price that
    # those at 1 are worth at least, and those at 0 at most.
    inverse = np.linalg.inv((vectors.T * shares) @ vectors)
    slopes = np.einsum("jk,kl,jl->j", vectors, inverse, vectors)
    inner = (shares > 1e-3) & (shares < 1 - 1e-3)
    full, empty = slopes[shares >= 1 - 1e-3], slopes[shares <= 1e-3]
    tolerance = 1e-2 * slopes.max()
    assert slopes[inner].max(initial=0) - slopes[inner].min(initial=np.inf) <= tolerance
    assert min([*full, *slopes[inner]]) >= max([*slopes[inner], *empty]) - tolerance


def test_the_relaxation_bounds_the_best_design() -> None:
    vectors = np.random.default_rng(1).normal(size=(9, 2))
    design = baselines.convex_design(vectors, 4)
    values = {}
    for subset in combinations(range(9), 4):
        values[subset] = determinant(vectors, np.isin(np.arange(9), subset).astype(float))
    best = max(values.values())
    assert determinant(vectors, design.shares) >= best - 1e-6
    assert len(set(design.chosen)) == 4


def test_the_chosen_are_those_of_the_largest_shares() -> None:
    vectors = np.random.default_rng(2).normal(size=(20, 3))
    design = baselines.convex_design(vectors, 6)
    rest = np.setdiff1d(np.arange(20), design.chosen)
    assert (np.diff(design.shares[design.chosen]) <= 0).all()
    assert design.shares[rest].max() <= design.shares[design.chosen].min()


def test_slsqp_that_stops_early_says_so() -> None:
    vectors = np.random.default_rng(3).normal(size=(20, 3))
    early = baselines.convex_design(vectors, 6, max_iterations=2)
    final = baselines.convex_design(vectors, 6)
    assert not early.converged
    assert determinant(vectors, early.shares) < determinant(vectors, final.shares)
