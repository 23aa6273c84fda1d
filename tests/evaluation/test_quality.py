from __future__ import annotations

from dataclasses import astuple, fields
from typing import Any

import numpy as np
import pytest

from optuna_peppp.configurations.cost import Cost
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.evaluation.quality import Calibration, Quality
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
    cost, draws = Cost(memory), predicted[np.newaxis]
    prediction = Prediction(space, cost, predicted, np.zeros(20), measured, draws)
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


def prediction_of(mean: Any, std: Any, measured: Any, draws: Any) -> Prediction:
    space = ConfigurationSpace({"configuration": range(len(mean))})
    memory = np.arange(1.0, len(mean) + 1)
    arrays = (np.array(values) for values in (mean, std, measured, draws))
    return Prediction(space, Cost(memory), *arrays)


def test_calibration_by_hand() -> None:
    # What was measured has no interval; of the other three one is missed.
    mean, std, measured = [0.9, 0.6, 0.5, 0.1], [0.0, 0.01, 0.01, 0.01], [True] + [False] * 3
    draws = np.array([mean, [0.9, 0.6, 0.5, 0.7]])
    errors = np.array([0.9, 0.6, 0.55, 0.1])
    prediction = prediction_of(mean, std, measured, draws)
    low, high = prediction.interval
    inside = ((low <= errors) & (errors <= high))[1:]
    found = Calibration.of(prediction, errors)
    assert found.coverage == pytest.approx(inside.mean())
    # All recommendations are those of the truth; the last is so in one of two draws.
    assert found.right == 1
    assert found.claimed == pytest.approx(0.95)


def test_a_wrong_recommendation_is_not_right() -> None:
    mean = [0.9, 0.1, 0.5]
    prediction = prediction_of(mean, [0.0] * 3, [False] * 3, [mean])
    found = Calibration.of(prediction, np.array([0.9, 0.8, 0.2]))
    # Under the last cap, and there only, another configuration is better.
    assert found.right == pytest.approx(0.9)
    assert found.claimed == 1
    assert found.coverage == pytest.approx(1 / 3)


def test_where_all_was_measured_no_interval_is_left() -> None:
    mean = [0.9, 0.1]
    found = Calibration.of(prediction_of(mean, [0.0] * 2, [True] * 2, [mean]), np.array(mean))
    assert np.isnan(found.coverage)
    assert found.area == pytest.approx(0)
    assert (found.right, found.claimed) == (1, 1)
