from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_peppp.meta.transforms import (
    Transform,
    binomial_variance,
    slope,
    transformed,
    untransformed,
)

BOTH: tuple[Transform, ...] = ("identity", "logit")
inside = st.floats(1e-3, 1 - 1e-3)


@pytest.mark.parametrize("transform", BOTH)
@given(error=inside)
def test_there_and_back(transform: Transform, error: float) -> None:
    back = untransformed(transformed([error], transform), transform)
    assert back == pytest.approx([error], abs=1e-12)


def test_logit_by_hand() -> None:
    values = transformed([[0.5, 0.75], [0.1, 0.9]], "logit")
    assert values == pytest.approx(np.log([[1.0, 3.0], [1 / 9, 9.0]]), abs=1e-12)
    assert transformed([0.25, 1.0], "identity").tolist() == [0.25, 1.0]


def test_no_error_is_infinite_odds() -> None:
    low, high = transformed([0.0, 1.0], "logit")
    assert -low == pytest.approx(high)
    assert high == pytest.approx(np.log(999))
    assert transformed([1e-4, 0.9999], "logit").tolist() == [low, high]


@given(error=st.floats(0.01, 0.99))
def test_slope_is_the_derivative(error: float) -> None:
    step = 1e-6
    below, above = transformed(error + np.array([-step, step]), "logit")
    assert slope(error, "logit") == pytest.approx((above - below) / (2 * step), rel=1e-5)


def test_slope_at_the_edges_is_finite() -> None:
    assert slope([0.0, 1.0], "logit") == pytest.approx([1 / (1e-3 * 0.999)] * 2)
    assert slope([[0.0, 0.3]], "identity").tolist() == [[1.0, 1.0]]


def test_binomial_variance_by_hand() -> None:
    # (0.5 * 98 + 1) / (98 + 2) is one half.
    assert binomial_variance(0.5, 98, "identity") == pytest.approx(0.25 / 98)
    # Nothing wrong of 8 images counts as 1 of 10.
    assert binomial_variance(0.0, 8, "identity") == pytest.approx(0.09 / 8)
    assert binomial_variance(0.5, 98, "logit") == pytest.approx(0.25 / 98 * 16)


@pytest.mark.parametrize("transform", BOTH)
def test_unknown_test_images_give_no_variance(transform: Transform) -> None:
    assert binomial_variance([[0.1, 0.9]], None, transform).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("transform", BOTH)
def test_variance_is_that_of_counting(transform: Transform) -> None:
    truth, images = np.array([0.1, 0.3, 0.6]), np.array([[1000], [5000]])
    counted = np.random.default_rng(0).binomial(images, truth, size=(100_000, 2, 3)) / images
    expected = transformed(counted, transform).var(axis=0)
    found = binomial_variance(truth, images, transform)
    assert found.shape == (2, 3)
    # The logit is linear only for many images; 1 right and 1 wrong count more for few.
    assert found == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("transform", BOTH)
@given(error=st.floats(0, 1), images=st.integers(1, 10_000))
def test_more_images_leave_less_variance(transform: Transform, error: float, images: int) -> None:
    more, fewer = binomial_variance([error, error], [images + 1, images], transform)
    assert 0 < more < fewer
