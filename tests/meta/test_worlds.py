from __future__ import annotations

import numpy as np
import pytest

from optuna_peppp.meta.worlds import Worlds

RNG = np.random.default_rng(0)
ERRORS = RNG.uniform(0.2, 0.8, (9, 12))
WORLDS = Worlds.of(ERRORS)


def test_components_and_noise_make_the_covariance_of_past_tasks() -> None:
    k = WORLDS.components.shape[1]
    assert k == 4
    covariance = np.cov(ERRORS.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    strongest = (vectors[:, -k:] * values[-k:]) @ vectors[:, -k:].T
    np.testing.assert_allclose(WORLDS.components @ WORLDS.components.T, strongest, atol=1e-12)
    rest = np.diag(covariance - strongest) * 9 / (9 - k) + 1e-5
    np.testing.assert_allclose(WORLDS.noise, rest, atol=1e-12)


@pytest.mark.parametrize(("n", "k"), [(1, 0), (2, 0), (3, 1), (5, 3), (9, 4)])
def test_few_tasks_have_fewer_components(n: int, k: int) -> None:
    worlds = Worlds.of(ERRORS[:n])
    assert worlds.components.shape == (12, k)
    assert (worlds.noise > 0).all()


@pytest.mark.parametrize("m", [1, 2, 5])
def test_alignment_is_the_ridge_fit_of_each_world(m: int) -> None:
    """Eqs. 1 and 2, by a dense solver."""
    indices, errors = RNG.permutation(12)[:m], RNG.uniform(0.2, 0.8, m)
    drawn = WORLDS.aligned(indices, errors)
    sigma = np.sqrt(np.median(WORLDS.noise))
    for t, world in enumerate(ERRORS):
        x = world[indices]
        design = np.vstack((np.column_stack((np.ones(m), x)) / sigma, np.diag([1 / 0.1, 1 / 0.3])))
        target = np.concatenate(((errors - x) / sigma, [0, 0]))
        (a, c), *_ = np.linalg.lstsq(design, target, rcond=None)
        np.testing.assert_allclose(drawn.errors[t], np.clip(world + a + c * world, 0, 1))
        misfit = np.square(design @ [a, c] - target).sum()
        assert drawn.misfit[t] == pytest.approx(misfit)
    likelihood = np.exp(-drawn.misfit / 2 / 4)
    np.testing.assert_allclose(drawn.weights, likelihood / likelihood.sum())


def test_a_past_task_of_another_level_and_spread_is_recognised() -> None:
    certain = Worlds(ERRORS, np.zeros((12, 1)), np.full(12, 1e-6))
    indices = np.arange(8)
    drawn = certain.aligned(indices, 0.05 + 0.9 * ERRORS[3, indices])
    assert drawn.weights[3] == pytest.approx(1)
    # The ridge pulls the alignment towards none, but little.
    np.testing.assert_allclose(drawn.errors[3], 0.05 + 0.9 * ERRORS[3], atol=1e-3)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_conditioning_is_that_of_a_dense_gaussian(m: int) -> None:
    """Eqs. 3 and 4."""
    indices, errors = RNG.permutation(12)[:m], RNG.uniform(0.2, 0.8, m)
    drawn = WORLDS.conditioned(indices, errors)
    covariance = WORLDS.components @ WORLDS.components.T
    inverse = np.linalg.inv(covariance[np.ix_(indices, indices)] + np.diag(WORLDS.noise[indices]))
    for t, world in enumerate(ERRORS):
        innovation = errors - world[indices]
        shifted = world + innovation @ inverse @ covariance[indices]
        np.testing.assert_allclose(drawn.errors[t], np.clip(shifted, 0, 1))
        assert drawn.misfit[t] == pytest.approx(innovation @ inverse @ innovation)
    likelihood = np.exp(-drawn.misfit / 2 / 16)
    np.testing.assert_allclose(drawn.weights, likelihood / likelihood.sum())


def test_worlds_stay_errors() -> None:
    for drawn in (
        WORLDS.aligned(np.array([0]), np.array([1.0])),
        WORLDS.conditioned(np.array([0]), np.array([0.0])),
    ):
        assert ((drawn.errors >= 0) & (drawn.errors <= 1)).all()
