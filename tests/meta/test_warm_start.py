"""The cold prior moved by past tasks, against dense Gaussian algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.meta.cold_start import cold_prior
from optuna_peppp.meta.warm_start import Evidence, Setting, WarmStart

Array = NDArray[np.float64]

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-2", "1-5-3"], "rate": [0.01, 0.1]})
COLD = cold_prior(SPACE)
NAN = math.nan
ERRORS = np.array(
    [[0.9, NAN, 0.5, 0.4, NAN, NAN], [NAN, 0.7, NAN, 0.3, NAN, 0.6], [0.8, NAN, NAN, NAN, NAN, NAN]]
)


def joint(setting: Setting, tasks: int) -> tuple[Array, Array]:
    """Mean and covariance of the errors of several tasks, one after another (Eq. 1)."""
    model = COLD.models[setting.model]
    kernel = setting.latent**2 * model.loadings @ model.loadings.T
    common = np.kron(np.ones((tasks, tasks)), setting.similarity * kernel)
    own = np.kron(np.eye(tasks), (1 - setting.similarity) * kernel)
    noise = np.kron(np.eye(tasks), setting.noise**2 * np.diag(model.noise))
    return np.tile(model.mean, tasks), common + own + noise


SETTINGS = [Setting(0, 0.5, 1.0, 1.0), Setting(2, 0.95, 2.0, 0.5), Setting(1, 0.8, 0.5, 4.0)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_likelihood_is_that_of_the_joint_gaussian(setting: Setting) -> None:
    mean, covariance = joint(setting, 3)
    seen = np.flatnonzero(~np.isnan(ERRORS.ravel()))
    expected = multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(
        ERRORS.ravel()[seen]
    )
    found = Evidence.of(COLD.models[setting.model], ERRORS).common(setting)[2]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_new_task_has_the_conditional_of_the_joint_gaussian(setting: Setting) -> None:
    evidence = tuple(Evidence.of(model, ERRORS) for model in COLD.models)
    (model,) = WarmStart(COLD, evidence, (setting,), np.ones(1)).prior().models
    mean, covariance = joint(setting, 4)
    seen, new = np.flatnonzero(~np.isnan(ERRORS.ravel())), np.arange(18, 24)
    gain = covariance[np.ix_(new, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    expected = mean[new] + gain @ (ERRORS.ravel()[seen] - mean[seen])
    remaining = covariance[np.ix_(new, new)] - gain @ covariance[np.ix_(seen, new)]
    np.testing.assert_allclose(model.mean, expected, atol=1e-9)
    found = model.loadings @ model.loadings.T + np.diag(model.noise)
    np.testing.assert_allclose(found, remaining, atol=1e-9)


def test_left_out_is_as_if_the_task_had_not_been_there() -> None:
    start = WarmStart.of(COLD, ERRORS)
    columns = np.array([4, 0, 5])
    for task, prior in start.left_out(np.array([0, 2]), columns):
        others = np.delete(ERRORS, task, axis=0)
        evidence = tuple(Evidence.of(model, others) for model in COLD.models)
        whole = WarmStart(COLD, evidence, start.settings, start.weights).prior()
        expected = whole.restricted(columns)
        for ours, theirs in zip(prior.models, expected.models, strict=True):
            np.testing.assert_allclose(ours.mean, theirs.mean, atol=1e-12)
            np.testing.assert_allclose(
                ours.loadings @ ours.loadings.T, theirs.loadings @ theirs.loadings.T, atol=1e-12
            )


def test_a_task_that_measured_nothing_says_nothing() -> None:
    nothing = Evidence.of(COLD.models[0], np.full((1, 6), NAN))
    mean, covariance, likelihood = nothing.common(Setting(0, 0.8, 1.0, 1.0))
    np.testing.assert_array_equal(mean, 0.0)
    np.testing.assert_allclose(covariance, 0.8 * np.eye(len(mean)))
    assert likelihood == pytest.approx(0.0, abs=1e-12)


def test_the_likeliest_settings_come_first_with_their_weights() -> None:
    start = WarmStart.of(COLD, ERRORS)
    likelihood = []
    for setting in start.settings:
        far = np.square(np.log2([setting.latent, setting.noise])).sum()
        found = start.evidence[setting.model].common(setting)[2]
        likelihood.append(found - 0.5 * far)
    expected = np.exp(np.array(likelihood) - likelihood[0])
    np.testing.assert_allclose(start.weights, expected / expected.sum())
    assert (np.diff(start.weights) <= 0).all()
    np.testing.assert_allclose(start.prior().weights.sum(axis=1), start.weights)


def test_tasks_that_agree_are_found_similar_and_clean() -> None:
    profile = np.array([0.9, 0.8, 0.5, 0.45, 0.2, 0.15])
    alike = WarmStart.of(COLD, np.tile(profile, (5, 1)))
    apart = WarmStart.of(COLD, np.array([profile, profile[::-1], 0.1 + 0 * profile]))
    assert alike.settings[0].similarity == 0.95
    assert apart.settings[0].similarity == 0.5
