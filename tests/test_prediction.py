from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from optuna_peppp import pareto
from optuna_peppp.matrix import ErrorMatrix
from optuna_peppp.meta import MetaModel
from optuna_peppp.prediction import Prediction, Recommendation, validate_memory
from optuna_peppp.space import ConfigurationSpace

D = 8
SPACE = ConfigurationSpace({"configuration": range(D)})


def prediction_of(
    memory: ArrayLike, mean: ArrayLike, measured: ArrayLike | None = None
) -> Prediction:
    sizes = np.asarray(memory, dtype=np.float64)
    space = ConfigurationSpace({"configuration": range(len(sizes))})
    flags = np.zeros(len(sizes), bool) if measured is None else np.asarray(measured, bool)
    errors = np.asarray(mean, dtype=np.float64)
    return Prediction(space, sizes, errors, np.where(flags, 0.0, 0.1), flags)


def meta_model() -> MetaModel:
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.1, 1, (6, 2)) @ rng.uniform(0, 0.5, (2, D))
    errors = np.clip(errors + 0.01 * rng.normal(size=(6, D)), 0, 1)
    return MetaModel.fit(ErrorMatrix(SPACE, tuple("abcdef"), errors, np.ones((6, D))), rank=2)


# Small numbers give equal memories, equal errors and equal points.
points = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=10)


@settings(deadline=None)
@given(points, st.data())
def test_the_frontier_holds_each_nondominated_point_once_measured_ones_first(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    table = np.array(pairs, dtype=np.float64)
    measured = data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    prediction = prediction_of(table[:, 0], table[:, 1] / 4, measured)
    distinct = np.unique(table, axis=0)
    expected = distinct[pareto.nondominated(distinct)]
    np.testing.assert_array_equal(table[prediction.frontier], expected)
    for index in prediction.frontier:
        equals = np.flatnonzero((table == table[index]).all(axis=1))
        assert measured[index] == any(measured[j] for j in equals)


@settings(deadline=None)
@given(points, st.integers(1, 6))
def test_no_allowed_configuration_is_better_than_the_recommended_one(
    pairs: list[tuple[int, int]], cap: int
) -> None:
    memory, mean = np.array(pairs, dtype=np.float64).T
    prediction = prediction_of(memory, mean / 4)
    allowed = memory <= cap
    if not allowed.any():
        with pytest.raises(ValueError, match="memory_cap must be at least"):
            prediction.recommend(cap)
        return
    recommended = prediction.recommend(cap)
    best = (mean / 4)[allowed].min()
    assert recommended.error == best
    assert recommended.memory == memory[allowed & (mean / 4 == best)].min()


def test_recommendations_by_hand() -> None:
    memory = [100e6, 200e6, 300e6, 250e6]
    prediction = prediction_of(memory, [0.5, 0.3, 0.1, 0.4], [False, True, False, False])
    assert prediction.frontier.tolist() == [0, 1, 2]
    expected = Recommendation(1, {"configuration": 1}, 0.3, 0.0, 200e6, measured=True)
    assert prediction.recommend("275MB") == expected
    assert prediction.recommend(200e6) == expected
    assert prediction.recommend("200 MB") == expected
    assert prediction.recommend("199.99MB").index == 0
    unlimited = prediction.recommend()
    assert unlimited == prediction.recommend(None)
    assert unlimited == Recommendation(2, {"configuration": 2}, 0.1, 0.1, 300e6, measured=False)
    for value, kind in zip(
        (unlimited.index, unlimited.error, unlimited.std, unlimited.memory, unlimited.measured),
        (int, float, float, float, bool),
        strict=True,
    ):
        assert type(value) is kind


def test_a_cap_below_every_configuration_names_the_smallest_memory() -> None:
    prediction = prediction_of([189_278_384, 2e8], [0.5, 0.4])
    with pytest.raises(
        ValueError, match=r"at least 189278384 bytes \(189\.3 MB\), .*; got '100MB'"
    ):
        prediction.recommend("100MB")
    assert prediction.recommend(189_278_384).index == 0


@pytest.mark.parametrize("cap", ["much", "", 0, -1.0, math.nan])
def test_caps_that_are_no_size_are_refused(cap: str | float) -> None:
    with pytest.raises(ValueError, match="a size must be a positive number"):
        prediction_of([1], [0.5]).recommend(cap)


def test_measured_errors_are_kept_and_the_others_predicted() -> None:
    meta = meta_model()
    memory = np.arange(1.0, D + 1)
    indices, errors = [4, 1, 4], [0.2, 0.6, 0.3]
    prediction = Prediction.from_measurements(meta, memory, indices, errors)
    assert prediction.space == SPACE
    assert prediction.measured.tolist() == [j in (1, 4) for j in range(D)]
    assert prediction.mean[[1, 4]] == pytest.approx([0.6, 0.25])
    assert prediction.std[[1, 4]].tolist() == [0, 0]
    mean, std = meta.predict(indices, errors)
    np.testing.assert_array_equal(prediction.mean[~prediction.measured], mean[~prediction.measured])
    np.testing.assert_array_equal(prediction.std[~prediction.measured], std[~prediction.measured])
    assert (prediction.std[~prediction.measured] > 0).all()
    np.testing.assert_array_equal(prediction.memory, memory)


def test_without_measurements_the_mean_over_tasks_is_drawn_against_memory() -> None:
    meta = meta_model()
    prediction = Prediction.from_measurements(meta, np.ones(D), [], [])
    np.testing.assert_array_equal(prediction.mean, meta.mean)
    assert not prediction.measured.any()
    assert prediction.frontier.tolist() == [int(meta.mean.argmin())]


def test_everything_measured_is_the_truth() -> None:
    truth: NDArray[np.float64] = np.linspace(0.9, 0.1, D)
    prediction = Prediction.from_measurements(meta_model(), np.ones(D), np.arange(D), truth)
    np.testing.assert_array_equal(prediction.mean, truth)
    assert prediction.measured.all()


def test_memory_is_a_copy_that_cannot_be_written() -> None:
    memory = np.arange(1, D + 1)
    validated = validate_memory(memory, SPACE)
    memory[0] = 99
    assert validated.tolist() == list(range(1, D + 1))
    assert validated.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        validated[0] = 1


@pytest.mark.parametrize(
    ("memory", "problem"),
    [
        (
            np.ones(7),
            r"^memory must have shape \(8,\), one entry per configuration of meta\.space; "
            r"got \(7,\)$",
        ),
        (np.ones((1, 8)), r"got \(1, 8\)"),
        (3.0, r"got \(\)"),
        ([1, 1, math.nan, 1, 1, 0, 1, 1], r"memory\[2\], of {'configuration': 2}, is nan"),
        ([1, 1, 1, 1, 1, 0, 1, 1], r"positive and finite, in bytes; memory\[5\].* is 0\.0"),
        ([-1, 1, 1, 1, 1, 1, 1, 1], r"memory\[0\].* is -1\.0"),
        ([1, 1, 1, 1, 1, 1, 1, math.inf], r"memory\[7\].* is inf"),
    ],
)
def test_bad_memory_is_refused(memory: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        validate_memory(memory, SPACE)
    with pytest.raises(ValueError, match=problem):
        Prediction.from_measurements(meta_model(), memory, [], [])


def test_bad_measurements_are_refused() -> None:
    with pytest.raises(ValueError, match="indices must be between 0 and 7; got 8"):
        Prediction.from_measurements(meta_model(), np.ones(D), [8], [0.5])
    with pytest.raises(ValueError, match=r"errors\[0\] is nan"):
        Prediction.from_measurements(meta_model(), np.ones(D), [0], [math.nan])
