from __future__ import annotations

from dataclasses import astuple, fields
from typing import Any

import numpy as np
import pytest

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.evaluation.quality import Quality, claimed_and_right, coverage
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.prediction import Prediction


def quality(memory: Any, errors: Any, predicted: Any, measured: Any) -> Quality:
    return Quality.of(
        np.array(memory, float), np.array(errors), np.array(predicted), np.array(measured)
    )


def test_a_true_prediction_has_no_regret() -> None:
    errors = [0.9, 0.5, 0.6, 0.1]
    result = quality([10, 20, 30, 40], errors, errors, [False] * 4)
    assert astuple(result) == (0.0,) * 6


def test_quality_by_hand() -> None:
    # Scaled memory 0, 0.5, 1. The last configuration is believed to be useless.
    result = quality([10, 20, 30], [0.8, 0.6, 0.2], [0.8, 0.5, 0.7], [True, False, False])
    # Predicted frontier (0, 0.8), (0.5, 0.5); of the true one (0, 0.8), (0.5, 0.6) are nearest.
    assert result.convergence == pytest.approx((0 + 0.1) / 2)
    # Steps of the true frontier up to memory 1.05, below error 1.
    true = 0.5 * 0.2 + 0.5 * 0.4 + 0.05 * 0.8
    assert result.hyperdiff == pytest.approx(abs(0.5 * 0.2 + 0.55 * 0.5 - true))
    assert result.hypervolume_regret == pytest.approx(true - (0.5 * 0.2 + 0.55 * 0.4))
    assert result.relative_error == pytest.approx(np.hypot(0.1, 0.5) / np.sqrt(0.64 + 0.36 + 0.04))
    # Only the cap that admits all three misses the best.
    assert result.recommendation_regret == pytest.approx((0.6 - 0.2) / 10)
    assert result.relative_memory == pytest.approx(10 / 60)


def test_quality_does_not_depend_on_the_unit_of_memory() -> None:
    rng = np.random.default_rng(0)
    memory, errors, predicted = rng.uniform(1, 9, 20), rng.random(20), rng.random(20)
    measured = rng.random(20) < 0.3
    mib = Quality.of(memory, errors, predicted, measured)
    for name in (field.name for field in fields(Quality)):
        bytes_ = getattr(Quality.of(memory * 2**20, errors, predicted, measured), name)
        assert bytes_ == pytest.approx(getattr(mib, name))


def test_recommendations_are_those_of_the_prediction() -> None:
    rng = np.random.default_rng(1)
    space = ConfigurationSpace({"configuration": range(20)})
    memory, errors, predicted = rng.uniform(1, 9, 20), rng.random(20), rng.random(20)
    measured = rng.random(20) < 0.3
    prediction = Prediction(space, memory, predicted, np.zeros(20), measured, predicted[np.newaxis])
    low, high = memory.min(), memory.max()
    regrets = []
    for share in range(1, 11):
        cap = low + (high - low) * share / 10 * (1 + 1e-12)
        chosen = prediction.recommend(cap).index
        regrets.append(errors[chosen] - errors[memory <= cap].min())
    result = Quality.of(memory, errors, predicted, measured)
    assert result.recommendation_regret == pytest.approx(np.mean(regrets))


def test_equal_memories_are_no_division_by_zero() -> None:
    result = quality([5, 5], [0.4, 0.3], [0.2, 0.3], [False, False])
    assert result.recommendation_regret == pytest.approx(0.1)


def test_coverage_is_the_share_within_closed_intervals() -> None:
    interval = np.array([[0.1, 0.2, 0.3, 0.4], [0.2, 0.2, 0.5, 0.6]])
    assert coverage(interval, np.array([0.1, 0.2, 0.51, 0.39])) == 0.5


def test_claims_and_what_was_right_by_hand() -> None:
    # Under the smaller five caps there is the first alone; then the second is believed to be
    # better, in three of four draws.
    memory, mean = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.6])
    draws = np.array([[0.5, 0.4, 0.6]] * 3 + [[0.3, 0.4, 0.6]])
    space = ConfigurationSpace({"configuration": range(3)})
    prediction = Prediction(space, memory, mean, np.ones(3), np.zeros(3, bool), draws)
    claimed, right = claimed_and_right(prediction, np.array([0.3, 0.4, 0.2]))
    assert claimed == pytest.approx((4 * 1 + 6 * 0.75) / 10)
    # Of the six caps that admit the second, it is nowhere within 0.01 of the first.
    assert right == pytest.approx(4 / 10)
    _, right = claimed_and_right(prediction, np.array([0.409, 0.4, 0.395]))
    assert right == 1


def test_intervals_and_claims_of_tasks_like_the_past_hold() -> None:
    """On tasks that are what the prior says, what is claimed is what is found."""
    d, rng = 12, np.random.default_rng(3)
    model = FactorModel(np.linspace(0.6, 0.4, d), 0.04 * rng.normal(size=(d, 2)), np.full(d, 4e-4))
    prior = TaskPrior((model,), np.ones((1, 2)), np.ones((1, 1)))
    space = ConfigurationSpace({"configuration": range(d)})
    errors = np.full((2, d), 0.5)
    meta = MetaModel(space, ("a", "b"), errors, np.eye(d)[:, :1], errors[0], np.ones(d), prior)
    covered, off = [], []
    for truth in prior.condition([], []).draws(300, seed=0):
        where = rng.permutation(d)[:2]
        prediction = Prediction.from_measurements(meta, np.arange(1, d + 1), where, truth[where])
        unknown = ~prediction.measured
        covered.append(coverage(prediction.interval[:, unknown], truth[unknown]))
        claimed, right = claimed_and_right(prediction, truth)
        off.append(right - claimed)
    for found, expected in ((covered, 0.9), (off, 0.0)):
        assert abs(np.mean(found) - expected) < 3 * np.std(found) / np.sqrt(300)
