from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from optuna_peppp import pareto
from optuna_peppp.configurations.cost import Cost
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.prediction import Prediction, Recommendation

D = 8
SPACE = ConfigurationSpace({"configuration": range(D)})


def prediction_of(
    memory: ArrayLike,
    mean: ArrayLike,
    measured: ArrayLike | None = None,
    draws: ArrayLike | None = None,
) -> Prediction:
    """By default every draw is the mean."""
    sizes = np.asarray(memory, dtype=np.float64)
    space = ConfigurationSpace({"configuration": range(len(sizes))})
    flags = np.zeros(len(sizes), bool) if measured is None else np.asarray(measured, bool)
    errors = np.asarray(mean, dtype=np.float64)
    outcomes = np.array([errors] if draws is None else draws, dtype=np.float64)
    return Prediction(space, Cost(sizes), errors, np.where(flags, 0.0, 0.1), flags, outcomes)


def meta_of(prior: TaskPrior) -> MetaModel:
    """A meta-model of this prior; its embeddings mean nothing."""
    d = len(prior.models[0].mean)
    space = ConfigurationSpace({"configuration": range(d)})
    tasks, errors = ("a", "b"), np.full((2, d), 0.5)
    return MetaModel(space, tasks, errors, np.eye(d)[:, :1], errors[0], np.ones(d), prior)


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
    expected = Recommendation(
        1, {"configuration": 1}, 0.3, 0.0, 200e6, measured=True, probability=1.0
    )
    assert prediction.recommend("275MB") == expected
    assert prediction.recommend(200e6) == expected
    assert prediction.recommend("200 MB") == expected
    assert prediction.recommend("199.99MB").index == 0
    unlimited = prediction.recommend()
    assert unlimited == prediction.recommend(None)
    assert unlimited == Recommendation(
        2, {"configuration": 2}, 0.1, 0.1, 300e6, measured=False, probability=1.0
    )
    kinds = {name: type(getattr(unlimited, name)) for name in Recommendation.__slots__}
    assert list(kinds.values()) == [int, dict, float, float, float, bool, float]


def test_without_a_cap_memory_that_buys_nothing_is_not_recommended() -> None:
    """The cheapest that is as likely as not within a hundredth of the lowest of all."""
    memory, mean = [1, 2, 3, 4], [0.5, 0.31, 0.305, 0.3]
    sure = prediction_of(memory, mean)
    # 0.31 is within 0.01 of 0.3, and needs half the memory; a cap is used up all the same.
    assert sure.recommend().index == 1
    assert sure.recommend(4).index == 3
    draws = np.tile(mean, (4, 1))
    draws[2:, 3] = 0.29
    likely = prediction_of(memory, mean, draws=draws)
    assert likely.recommend() == Recommendation(
        1, {"configuration": 1}, 0.31, 0.1, 2.0, measured=False, probability=0.5
    )
    draws[1:, 3] = 0.29
    # Of four draws one is not enough, and 0.305 is as far off: the last is in all.
    unlikely = prediction_of(memory, mean, draws=draws).recommend()
    assert (unlikely.index, unlikely.probability) == (3, 1.0)


def test_without_a_cap_and_sure_of_nothing_the_most_probable_is_recommended() -> None:
    draws = [[0.5, 0.4, 0.1], [0.1, 0.4, 0.5], [0.5, 0.2, 0.5], [0.5, 0.6, 0.2], [0.7, 0.3, 0.6]]
    mean = [0.46, 0.38, 0.37]
    recommended = prediction_of([1, 2, 3], mean, draws=draws).recommend()
    # Right in one, two and two of the five draws: of equals the cheapest.
    assert (recommended.index, recommended.probability) == (1, 2 / 5)


@settings(deadline=None)
@given(points, st.integers(0, 10**6))
def test_without_a_cap_nothing_cheaper_on_the_frontier_is_good_enough(
    pairs: list[tuple[int, int]], seed: int
) -> None:
    memory, mean = np.array(pairs, dtype=np.float64).T
    draws = mean / 4 + np.random.default_rng(seed).normal(0, 0.01, (20, len(mean)))
    prediction = prediction_of(memory, mean / 4, draws=draws)
    right = (draws <= draws.min(axis=1, keepdims=True) + 0.01).mean(axis=0)
    recommended = prediction.recommend()
    assert recommended.index in prediction.frontier
    assert recommended.probability == right[recommended.index]
    enough = min(0.5, right[prediction.frontier].max())
    assert recommended.probability >= enough
    cheaper = [j for j in prediction.frontier if memory[j] < recommended.memory]
    assert (right[cheaper] < enough).all()


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


# Uncertainty, from draws made by hand

STEPS = np.arange(21) / 100
"""Of 21 draws the second smallest and the second largest bound the central 90%."""


def test_a_recommendation_is_right_where_nothing_allowed_is_lower_by_more_than_a_hundredth() -> (
    None
):
    draws = [[0.30, 0.30, 0.1], [0.309, 0.30, 0.1], [0.32, 0.30, 0.1], [0.20, 0.30, 0.1]]
    prediction = prediction_of([1, 2, 3], [0.28, 0.3, 0.1], draws=draws)
    recommended = prediction.recommend(2)
    assert recommended.index == 0
    assert recommended.probability == 3 / 4
    # What needs more than the cap does not count; with a higher cap it does, and is chosen.
    assert prediction.recommend().probability == 1
    assert prediction_of([1, 2, 3], [0.28, 0.3, 0.4], draws=draws).recommend().probability == 0
    # Within the smallest cap there is nothing else to choose.
    assert prediction.recommend(1).probability == 1


def test_the_interval_holds_nine_tenths_of_the_draws() -> None:
    order = np.random.default_rng(0).permutation(21)
    draws = np.column_stack((5 * STEPS, np.full(21, 0.3), 0.5 + STEPS))[order]
    prediction = prediction_of([1, 2, 3], [0.5, 0.3, 0.6], [False, True, False], draws)
    np.testing.assert_allclose(prediction.interval, [[0.05, 0.3, 0.51], [0.95, 0.3, 0.69]])


def test_the_band_is_where_the_lowest_error_up_to_each_memory_is_found() -> None:
    # The cheapest configuration, 1, rises over the draws; 2 is sure; the dearest, 0, falls.
    draws = np.column_stack((0.55 - STEPS, 0.5 + STEPS, np.full(21, 0.58)))
    prediction = prediction_of([3, 1, 2], draws.mean(axis=0), draws=draws)
    assert prediction.frontier.tolist() == [1, 2, 0]
    # At memory 1, 0.50 to 0.70; at 2 at most 0.58; at 3 once 0.50, 0.51, twice 0.52, then 0.51,
    # 0.50, and so on down to 0.35.
    np.testing.assert_allclose(prediction.band, [[0.51, 0.51, 0.36], [0.69, 0.58, 0.52]])


def test_configurations_of_equal_memory_share_their_place_in_the_band() -> None:
    draws = np.column_stack((5 * STEPS, np.full(21, 0.4), np.full(21, 0.9)))
    prediction = prediction_of([7, 7, 7], [0.5, 0.4, 0.9], draws=draws)
    assert prediction.frontier.tolist() == [1]
    np.testing.assert_allclose(prediction.band, [[0.05], [0.4]])
    mean, low, high = prediction.dominated_area
    # Nothing but the margin of 1.05 has a width.
    assert mean == pytest.approx(1.05 * (1 - np.minimum(5 * STEPS, 0.4).mean()))
    assert (low, high) == pytest.approx((1.05 * (1 - 0.4), 1.05 * (1 - 0.05)))


def test_the_uncertainty_of_a_single_configuration() -> None:
    prediction = prediction_of([5], [0.4], draws=0.3 + STEPS[:, np.newaxis])
    np.testing.assert_allclose(prediction.interval, [[0.31], [0.49]])
    np.testing.assert_allclose(prediction.band, [[0.31], [0.49]])
    area = 1.05 * (1 - np.array([0.4, 0.49, 0.31]))
    assert prediction.dominated_area == pytest.approx(tuple(area))
    assert prediction.recommend(5).probability == 1


def test_the_dominated_area_by_hand() -> None:
    # Scaled memory 0, 0.5, 1; the first draw falls in steps, the second is led by the cheapest.
    draws = [[0.2, 0.8, 0.6], [0.9, 0.5, 0.9]]
    prediction = prediction_of([30, 10, 20], [0.55, 0.65, 0.75], draws=draws)
    areas = 0.5 * 0.2 + 0.5 * 0.4 + 0.05 * 0.8, 1.05 * 0.5
    expected = np.mean(areas), *np.interp([0.05, 0.95], [0, 1], areas)
    assert prediction.dominated_area == pytest.approx(expected)
    assert all(type(number) is float for number in prediction.dominated_area)


outcomes = st.lists(st.floats(0, 1), min_size=12, max_size=12)


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=4, max_size=4), outcomes)
def test_the_dominated_area_is_the_hypervolume_of_the_draws(
    memory: list[int], errors: list[float]
) -> None:
    draws = np.reshape(errors, (3, 4))
    prediction = prediction_of(memory, draws.mean(axis=0), draws=draws)
    scaled = (np.array(memory) - min(memory)) / ((max(memory) - min(memory)) or 1)
    areas = [pareto.hypervolume(np.column_stack((scaled, draw)), (1.05, 1)) for draw in draws]
    expected, low, high = prediction.dominated_area
    assert expected == pytest.approx(np.mean(areas), abs=1e-12)
    assert min(areas) - 1e-12 <= low <= high <= max(areas) + 1e-12
    # The frontier of the means dominates no more (Jensen).
    of_means = pareto.hypervolume(np.column_stack((scaled, prediction.mean)), (1.05, 1))
    assert of_means <= expected + 1e-12


# Conditioning on measurements


def test_one_measurement_by_hand() -> None:
    # Covariance of the signals 0.01, 0.02, 0.04, and noise of 0.01 each.
    factors = FactorModel(
        mean=np.array([0.5, 0.5]), loadings=np.array([[0.1], [0.2]]), noise=np.full(2, 0.01)
    )
    meta = meta_of(TaskPrior((factors,), scales=np.ones((1, 2)), weights=np.ones((1, 1))))
    prediction = Prediction.from_measurements(meta, [1, 2], [0], [0.6])
    assert prediction.mean == pytest.approx([0.6, 0.5 + 0.1 * 0.02 / 0.02])
    assert prediction.std == pytest.approx([0, np.sqrt(0.04 + 0.01 - 0.02**2 / 0.02)])
    # Counted on 98 images, 0.6 is a share of 0.598 or so: a noisier measurement.
    counted = Prediction.from_measurements(meta, [1, 2], [0], [0.6], test_images=98)
    binomial = 0.598 * 0.402 / 98
    assert counted.mean == pytest.approx([0.6, 0.5 + 0.1 * 0.02 / (0.02 + binomial)])
    # So is that which is predicted: 0.5 on 98 images.
    variance = 0.04 + 0.01 + 0.25 / 98 - 0.02**2 / (0.02 + binomial)
    assert counted.std == pytest.approx([0, np.sqrt(variance)])


@pytest.mark.parametrize("test_images", [None, 50])
def test_measured_errors_are_kept_and_the_others_predicted(test_images: int | None) -> None:
    meta = meta_model()
    memory = np.arange(1.0, D + 1)
    indices, errors = [4, 1, 4], [0.2, 0.6, 0.3]
    prediction = Prediction.from_measurements(
        meta, memory, indices, errors, test_images=test_images
    )
    assert prediction.space == SPACE
    measured = prediction.measured
    assert measured.tolist() == [j in (1, 4) for j in range(D)]
    assert prediction.mean[[1, 4]] == pytest.approx([0.6, 0.25])
    assert prediction.std[[1, 4]].tolist() == [0, 0]
    posterior = meta.prior.condition(indices, errors, test_images=test_images)
    moments = posterior.moments()
    np.testing.assert_array_equal(prediction.mean[~measured], moments.mean.clip(0, 1)[~measured])
    np.testing.assert_array_equal(prediction.std[~measured], moments.std[~measured])
    assert (prediction.std[~measured] > 0).all()
    np.testing.assert_array_equal(prediction.memory, memory)


def test_measured_errors_have_no_width() -> None:
    measurements = [4, 1], [0.5, 0.06]
    prediction = Prediction.from_measurements(meta_model(), np.arange(1, D + 1), *measurements)
    assert (prediction.draws[:, [1, 4]] == [0.06, 0.5]).all()
    np.testing.assert_array_equal(prediction.interval[:, [1, 4]], [[0.06, 0.5]] * 2)
    low, high = prediction.interval
    assert (low < high)[~prediction.measured].all()
    assert prediction.draws.min() >= 0
    assert prediction.draws.max() <= 1
    # At the memory of a measured configuration no higher error can be found.
    place = prediction.frontier.tolist().index(1)
    assert prediction.band[1, place] == 0.06


def test_without_measurements_the_prior_is_drawn_against_memory() -> None:
    meta = meta_model()
    prediction = Prediction.from_measurements(meta, np.ones(D), [], [])
    moments = meta.prior.condition([], []).moments()
    np.testing.assert_array_equal(prediction.mean, moments.mean)
    np.testing.assert_array_equal(prediction.std, moments.std)
    assert not prediction.measured.any()
    assert prediction.frontier.tolist() == [int(moments.mean.argmin())]


def test_the_same_measurements_give_the_same_draws() -> None:
    meta = meta_model()
    once, again = (Prediction.from_measurements(meta, np.ones(D), [3], [0.4]) for _ in range(2))
    np.testing.assert_array_equal(once.draws, again.draws)


def test_everything_measured_is_the_truth() -> None:
    truth: NDArray[np.float64] = np.linspace(0.9, 0.1, D)
    prediction = Prediction.from_measurements(meta_model(), np.ones(D), np.arange(D), truth)
    np.testing.assert_array_equal(prediction.mean, truth)
    assert prediction.measured.all()
    np.testing.assert_array_equal(prediction.interval, [truth, truth])
    assert prediction.recommend().probability == 1


# Calibration, on tasks that are what the prior says


def about(values: ArrayLike) -> Any:
    """What the mean of a task's numbers may be, by three of its standard errors."""
    array = np.asarray(values, dtype=np.float64)
    return pytest.approx(array.mean(), abs=3 * float(array.std(ddof=1)) / math.sqrt(len(array)))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_predictions_are_as_uncertain_as_they_say(count: int) -> None:
    d, tasks = 12, 300
    rng = np.random.default_rng(count)
    # Two models at scales that differ: tasks like the past and unlike it, quiet and noisy ones.
    models = tuple(
        FactorModel(
            mean=np.linspace(0.6, 0.4, d),
            loadings=0.04 * rng.normal(size=(d, k)),
            noise=rng.uniform(0.01, 0.03, d) ** 2,
        )
        for k in (1, 3)
    )
    scales = np.array([[0.5, 0.7], [1.0, 1.0], [1.5, 1.4]])
    prior = TaskPrior(models, scales, weights=np.array([[1, 2, 1], [1, 3, 2]]) / 10)
    meta, memory = meta_of(prior), np.arange(1.0, d + 1)
    scaled = (memory - 1) / (d - 1)
    covered, squares, in_band, in_area, area_off, chances, right = [], [], [], [], [], [], []
    for truth in prior.condition([], []).draws(tasks, seed=count):
        where = rng.permutation(d)[:count]
        prediction = Prediction.from_measurements(meta, memory, where, truth[where])
        unknown = ~prediction.measured
        low, high = prediction.interval
        covered.append(((low <= truth) & (truth <= high))[unknown].mean())
        away = (truth - prediction.mean)[unknown] / prediction.std[unknown]
        squares.append(np.square(away).mean())
        lowest = np.minimum.accumulate(truth)[prediction.frontier]
        low, high = prediction.band
        in_band.append(((low <= lowest) & (lowest <= high)).mean())
        area = pareto.hypervolume(np.column_stack((scaled, truth)), (1.05, 1))
        expected, least, most = prediction.dominated_area
        in_area.append(least <= area <= most)
        area_off.append(area - expected)
        cap = int(rng.integers(1, d + 1))
        recommended = prediction.recommend(cap)
        chances.append(recommended.probability)
        right.append(truth[recommended.index] <= truth[:cap].min() + 0.01)
    assert about(covered) == 0.9
    assert about(squares) == 1
    assert about(in_area) == 0.9
    assert about(area_off) == 0
    # Where a measured error is the lowest, the band ends there, and holds it for certain.
    assert about(in_band) == 0.9 or (count and np.mean(in_band) > 0.9)
    # Sure recommendations are right, and doubtful ones as often as they say.
    told, off = np.array(chances), np.array(right) - np.array(chances)
    doubtful = told < np.median(told)
    assert about(off[doubtful]) == 0
    assert about(off[~doubtful]) == 0
    assert told[~doubtful].mean() > told[doubtful].mean() + 0.1


@pytest.mark.parametrize("test_images", [0, -1, math.nan, math.inf])
def test_bad_test_images_are_refused(test_images: Any) -> None:
    with pytest.raises(ValueError, match=f"positive number, or None .* got {test_images}$"):
        Prediction.from_measurements(meta_model(), np.ones(D), [0], [0.5], test_images=test_images)


def test_bad_measurements_are_refused() -> None:
    with pytest.raises(ValueError, match="indices must be between 0 and 7; got 8"):
        Prediction.from_measurements(meta_model(), np.ones(D), [8], [0.5])
    with pytest.raises(ValueError, match=r"errors\[0\] is nan"):
        Prediction.from_measurements(meta_model(), np.ones(D), [0], [math.nan])


# Constraints


def test_what_violates_a_constraint_is_as_if_it_were_not_there() -> None:
    rng = np.random.default_rng(0)
    memory, draws = rng.uniform(1, 2, D), rng.uniform(0, 1, (50, D))
    memory[[2, 6]] = memory.min() / 2, memory.max() * 2
    mean = draws.mean(axis=0)
    mean[[3, 6]] = 0.0
    violating = np.array([3, 6])
    others = np.setdiff1d(np.arange(D), violating)
    flags = np.zeros(D, bool)
    prediction = Prediction(SPACE, Cost(memory), mean, np.ones(D), flags, draws, violating)
    expected = prediction_of(memory[others], mean[others], flags[others], draws[:, others])
    np.testing.assert_array_equal(prediction.frontier, others[expected.frontier])
    np.testing.assert_array_equal(prediction.band, expected.band)
    ours, theirs = prediction.recommend(), expected.recommend()
    assert ours.index == others[theirs.index]
    assert ours.probability == theirs.probability


def test_the_area_is_that_of_the_allowed_in_the_same_unit() -> None:
    memory, mean = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.25, 0.0])
    draws = mean[np.newaxis]
    flags = np.zeros(3, bool)
    space = ConfigurationSpace({"configuration": range(3)})
    prediction = Prediction(space, Cost(memory), mean, np.ones(3), flags, draws, np.array([0, 2]))
    # From the second's memory, 0.5 of the range, to the reference at 1.05.
    np.testing.assert_allclose(prediction.dominated_area, 0.75 * 0.55)


def test_nothing_is_recommended_where_all_violate_a_constraint() -> None:
    memory, flags = np.array([1.0, 2.0]), np.zeros(2, bool)
    space = ConfigurationSpace({"configuration": range(2)})
    draws = np.full((3, 2), 0.5)
    prediction = Prediction(space, Cost(memory), draws[0], flags + 1.0, flags, draws, np.arange(2))
    assert prediction.frontier.size == 0
    assert prediction.band.shape == (2, 0)
    assert prediction.dominated_area == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="violates no constraint; all of them do"):
        prediction.recommend()
    some = Prediction(space, Cost(memory), draws[0], flags + 1.0, flags, draws, np.array([0]))
    with pytest.raises(ValueError, match=r"memory_cap must be at least 2 bytes"):
        some.recommend(1.5)
