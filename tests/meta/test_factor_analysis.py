from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import subspace_angles
from scipy.special import logsumexp

from optuna_peppp.meta.averaging import Fitted
from optuna_peppp.meta.factor_analysis import EXPECTED, NoiseModel, State
from optuna_peppp.meta.factor_model import FactorModel
from optuna_peppp.meta.observations import SCALES, Tasks
from optuna_peppp.meta.transforms import Transform

Array = NDArray[np.float64]
KINDS: tuple[NoiseModel, ...] = ("own", "shared")
BOTH: tuple[Transform, ...] = ("identity", "logit")


@dataclass
class Truth:
    """A factor model, and errors of tasks drawn from it."""

    mean: Array
    loadings: Array
    errors: Array


def drawn(
    n: int,
    d: int,
    rank: int,
    noise: float | Array = 0.02,
    *,
    seed: int = 0,
    missing: float = 0.0,
    spread: float = 0.05,
) -> Truth:
    """With noise, a standard deviation that broadcasts to (n, d)."""
    rng = np.random.default_rng(seed)
    mean, loadings = rng.uniform(0.3, 0.6, d), rng.normal(size=(d, rank)) * spread
    errors = mean + rng.normal(size=(n, rank)) @ loadings.T + rng.normal(size=(n, d)) * noise
    errors = np.clip(errors, 0, 1)
    gone = rng.random((n, d)) < missing
    # Something is observed of every task and every configuration.
    gone[np.arange(n), np.arange(n) % d] = gone[np.arange(d) % n, np.arange(d)] = False
    errors[gone] = np.nan
    return Truth(mean, loadings, errors)


def fit(
    errors: Array,
    rank: int = 2,
    *,
    noise: NoiseModel = "own",
    transform: Transform = "identity",
    test_images: int | None = None,
) -> Fitted:
    images = None if test_images is None else np.full(len(errors), test_images)
    return Fitted.to(errors, images, transform, noise, rank)


def states(errors: Array, rank: int, noise: NoiseModel, count: int) -> tuple[list[State], Array]:
    """The states of so many iterations, and what they say they have reached."""
    tasks = Tasks.of(errors, None, "identity")
    state, found, reached = State.start(tasks, rank), list[State](), list[float]()
    for _ in range(count):
        state, value = state.improved(tasks, noise)
        found.append(state)
        reached.append(value)
    return found, np.array(reached)


def log_likelihood(model: FactorModel, row: Array, scales: Array = SCALES) -> Array:
    """Of a task at every scale, as a Gaussian of d dimensions."""
    seen = ~np.isnan(row)
    loadings, noise = model.loadings[seen], np.diag(model.noise[seen])
    return np.array(
        [
            stats.multivariate_normal.logpdf(
                row[seen], model.mean[seen], a**2 * loadings @ loadings.T + b**2 * noise
            )
            for a, b in scales
        ]
    )


def noise_scales(fitted: Fitted) -> Array:
    """The expected noise scale of every task, a geometric mean."""
    joint = fitted.likelihood + np.log(EXPECTED)
    shares = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    return np.asarray(np.exp(shares @ np.log(SCALES[:, 1])))


def test_the_usual_scale_is_one() -> None:
    assert EXPECTED.sum() == pytest.approx(1)
    assert SCALES[EXPECTED.argmax()].tolist() == [1, 1]
    assert len(SCALES) == len(EXPECTED) == 55


@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("noise", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_truth_is_recovered(missing: float, noise: NoiseModel, seed: int) -> None:
    deviations = np.full(30, 0.02) if noise == "shared" else np.linspace(0.01, 0.04, 30)
    truth = drawn(200, 30, 2, deviations, seed=seed, missing=missing)
    model = fit(truth.errors, noise=noise).model
    assert np.rad2deg(subspace_angles(model.loadings, truth.loadings)).max() < 5
    # Means err by what so many tasks leave open.
    observed = np.count_nonzero(~np.isnan(truth.errors), axis=0)
    variance = np.square(truth.loadings).sum(axis=1) + deviations**2
    assert (np.abs(model.mean - truth.mean) < 4 * np.sqrt(variance / observed)).all()
    if noise == "own":
        assert np.corrcoef(np.log(model.noise), np.log(deviations))[0, 1] > 0.9
    else:
        assert np.ptp(np.log(model.noise)) < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_recovered_where_nothing_is_missing(seed: int) -> None:
    truth = drawn(200, 30, 2, 0.02, seed=seed)
    assert fit(truth.errors, noise="shared").model.noise == pytest.approx(4e-4, rel=0.1)
    # Chi-squared of some 200 degrees of freedom: 10%, of which 30 are drawn.
    assert fit(truth.errors, noise="own").model.noise == pytest.approx(4e-4, rel=0.5)


@pytest.mark.parametrize("noise", KINDS)
def test_new_tasks_are_almost_as_likely_as_under_the_truth(noise: NoiseModel) -> None:
    truth = drawn(400, 20, 2, 0.02, seed=1)
    fitted = fit(truth.errors[:200], noise=noise).model
    ideal = FactorModel(truth.mean, truth.loadings, np.full(20, 4e-4))
    usual = np.ones((1, 2))
    lost = [
        log_likelihood(ideal, row, usual) - log_likelihood(fitted, row, usual)
        for row in truth.errors[200:]
    ]
    # Some 80 parameters from 200 tasks cost half of 80 / 200 nats a task.
    assert 0 < np.mean(lost) < 0.6


@pytest.mark.parametrize("transform", BOTH)
@pytest.mark.parametrize("noise", KINDS)
def test_permutations_of_tasks_and_configurations_only_permute(
    transform: Transform, noise: NoiseModel
) -> None:
    errors = drawn(25, 15, 2, 0.01, missing=0.3).errors
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(25), rng.permutation(15)
    one = fit(errors, 3, transform=transform, noise=noise)
    other = fit(errors[rows][:, columns], 3, transform=transform, noise=noise)
    assert other.likelihood == pytest.approx(one.likelihood[rows], rel=1e-6, abs=1e-6)
    models = [(one.model, other.model)]
    models += [(one.left_out[row], other.left_out[t]) for t, row in enumerate(rows)]
    for ours, theirs in models:
        assert theirs.mean == pytest.approx(ours.mean[columns], abs=1e-9)
        assert theirs.noise == pytest.approx(ours.noise[columns], rel=1e-6)
        # Dimensions may turn and change signs; what they span stays.
        covariance = (ours.loadings @ ours.loadings.T)[np.ix_(columns, columns)]
        assert theirs.loadings @ theirs.loadings.T == pytest.approx(covariance, abs=1e-9)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_likelihoods_are_those_of_dense_gaussians(missing: float) -> None:
    errors = drawn(6, 8, 2, missing=missing).errors
    fitted = fit(errors)
    assert fitted.likelihood.shape == (6, len(SCALES))
    for row, model, likelihood in zip(errors, fitted.left_out, fitted.likelihood, strict=True):
        assert likelihood == pytest.approx(log_likelihood(model, row))


def test_a_left_out_model_is_the_regression_on_the_other_tasks() -> None:
    errors = drawn(12, 8, 2, missing=0.3).errors
    state = states(errors, 2, "own", 4)[0][-1]
    tasks = Tasks.of(errors, None, "identity")
    for t, (model, _) in enumerate(state.left_out(tasks, "own", np.arange(12))):
        for j in range(8):
            others = [s for s in range(12) if s != t and not np.isnan(errors[s, j])]
            precision = state.stiffness + state.seconds[others].sum(axis=0) / state.noise[j]
            target = state.stiffness @ state.centre
            target = target + errors[others, j] @ state.seconds[others, 0] / state.noise[j]
            spread = np.linalg.inv(precision)
            assert np.append(model.mean[j], model.loadings[j]) == pytest.approx(spread @ target)


def test_what_is_left_out_is_not_looked_at_again() -> None:
    # The latents of the other tasks and the noise are given by the state; both have seen it.
    errors = drawn(12, 8, 2).errors
    state = states(errors, 2, "own", 4)[0][-1]
    altered = errors.copy()
    altered[5] = np.random.default_rng(2).random(8)
    altered[5, 2:4] = np.nan
    before, after = (
        [model for model, _ in state.left_out(Tasks.of(e, None, "identity"), "own", np.arange(12))]
        for e in (errors, altered)
    )
    for t in range(12):
        same = np.allclose(before[t].mean, after[t].mean, rtol=1e-9)
        assert same == (t == 5)
    assert after[5].loadings == pytest.approx(before[5].loadings, rel=1e-6, abs=1e-9)
    assert after[5].noise == pytest.approx(before[5].noise, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_leaving_out_comes_close_to_fitting_anew(seed: int) -> None:
    errors = drawn(15, 20, 2, seed=seed, missing=0.2).errors

    def mean_log_likelihood(models: list[FactorModel]) -> float:
        each = [
            logsumexp(log_likelihood(model, row) + np.log(EXPECTED))
            for model, row in zip(models, errors, strict=True)
        ]
        return float(np.mean(each))

    fitted = fit(errors)
    seen = mean_log_likelihood([fitted.model] * 15)
    left_out = mean_log_likelihood(list(fitted.left_out))
    anew = mean_log_likelihood([fit(np.delete(errors, t, axis=0)).model for t in range(15)])
    # A little optimistic, as noise and latents have seen the task.
    assert anew < left_out < seen
    assert left_out - anew < (seen - anew) / 2


def test_noisier_tasks_have_larger_noise_scales() -> None:
    noisy = np.arange(60) % 3 == 0
    for seed in range(3):
        errors = drawn(60, 30, 2, np.where(noisy, 0.03, 0.01)[:, None], seed=seed).errors
        scales = noise_scales(fit(errors))
        assert scales[noisy].min() > scales[~noisy].max()
        assert scales[noisy].mean() / scales[~noisy].mean() == pytest.approx(3, rel=0.2)


def test_noisier_tasks_have_less_of_a_say() -> None:
    noisy = np.arange(40) < 30
    for seed in range(3):
        noise = np.where(noisy, 0.05, 0.005)[:, None]
        truth = drawn(40, 30, 1, noise, seed=seed, spread=0.005)
        found = np.abs(fit(truth.errors, 1).model.mean - truth.mean).mean()
        plain = np.abs(truth.errors.mean(axis=0) - truth.mean).mean()
        assert found < plain / 2


@pytest.mark.parametrize("noise", KINDS)
def test_a_configuration_that_was_measured_once_is_less_certain(noise: NoiseModel) -> None:
    errors = drawn(40, 20, 2).errors
    often = fit(errors, noise=noise).model
    for j in range(4):
        once = errors.copy()
        once[1:, j] = np.nan
        seldom = fit(once, noise=noise).model
        assert seldom.noise[j] > 2 * often.noise[j]
        assert seldom.noise[j] > np.delete(seldom.noise, j).max()


def test_dimensions_that_nothing_speaks_for_shrink_away() -> None:
    loadings = fit(drawn(60, 30, 1, 0.01).errors, 4).model.loadings
    strengths = np.linalg.svd(loadings, compute_uv=False)
    assert strengths[1] < 0.1 * strengths[0]


def test_more_dimensions_than_tasks_are_idle() -> None:
    model = fit(drawn(2, 6, 1).errors, 4).model
    assert model.loadings.shape == (6, 4)
    assert np.linalg.matrix_rank(model.loadings, tol=1e-6) <= 2


@pytest.mark.parametrize("transform", BOTH)
def test_constant_errors_are_no_trouble(transform: Transform) -> None:
    fitted = fit(np.full((4, 5), 0.3), transform=transform)
    expected = 0.3 if transform == "identity" else np.log(3 / 7)
    assert fitted.model.mean == pytest.approx(expected, abs=1e-3)
    assert np.isfinite(fitted.likelihood).all()


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_rows_are_the_regression_on_the_latents(missing: float) -> None:
    errors = drawn(15, 10, 2, missing=missing).errors
    before, after = states(errors, 2, "own", 4)[0][-2:]
    for j in range(10):
        seen = ~np.isnan(errors[:, j])
        precision = before.stiffness + after.seconds[seen].sum(axis=0) / before.noise[j]
        target = before.stiffness @ before.centre
        target = target + errors[seen, j] @ after.seconds[seen, 0] / before.noise[j]
        assert after.spread[j] == pytest.approx(np.linalg.inv(precision), rel=1e-6, abs=1e-12)
        assert after.rows[j] == pytest.approx(np.linalg.solve(precision, target), rel=1e-6)
    assert after.centre == pytest.approx(after.rows.mean(axis=0))
    around = np.cov(after.rows.T, bias=True) + after.spread.mean(axis=0)
    assert np.linalg.inv(after.stiffness) == pytest.approx(around, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_the_bound_never_falls(missing: float, seed: int) -> None:
    # With noise of their own, configurations share a prior that moves, and it may fall.
    errors = drawn(30, 25, 2, seed=seed, missing=missing).errors
    reached = states(errors, 3, "shared", 40)[1]
    assert (np.diff(reached) > -1e-9 * np.abs(reached[1:])).all()


@pytest.mark.parametrize("test_images", [50, 500])
@pytest.mark.parametrize("noise", KINDS)
def test_what_counting_explains_is_no_noise_of_the_configurations(
    noise: NoiseModel, test_images: int
) -> None:
    exact = drawn(60, 30, 2, 0.01, spread=0.1).errors
    counted = np.random.default_rng(1).binomial(test_images, exact) / test_images
    aware = fit(counted, noise=noise, test_images=test_images).model.noise.mean()
    unaware = fit(counted, noise=noise).model.noise.mean()
    assert unaware > 0.22 / test_images
    assert aware < unaware / 2


@pytest.mark.parametrize("images", [None, 80])
def test_noise_is_the_mean_of_expected_squares(images: int | None) -> None:
    errors = drawn(9, 6, 2, missing=0.3).errors
    tasks = Tasks.of(errors, None if images is None else np.full(9, float(images)), "identity")
    before = State.start(tasks, 2)
    after = before.improved(tasks, "own")[0]
    sums, counts = np.zeros(6), np.zeros(6)
    for t, j in np.argwhere(~np.isnan(errors)):
        v, x = before.noise[j], errors[t, j]
        c = 0.0 if tasks.binomial is None else tasks.binomial[t, j]
        row = after.rows[j]
        square = x**2 * after.seconds[t, 0, 0] - 2 * x * row @ after.seconds[t, 0]
        square += np.sum(after.seconds[t] * (np.outer(row, row) + after.spread[j]))
        sums[j] += (v / (v + c)) ** 2 * square + v / (v + c) * c
        counts[j] += 1
    # Three observations of the mean noise join every configuration's own.
    expected = (sums + 3 * sums.sum() / counts.sum()) / (counts + 3)
    assert after.noise == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("images", [None, 80])
def test_the_expected_likelihood_is_that_of_the_uncertain_rows(images: int | None) -> None:
    errors = drawn(5, 6, 2, missing=0.3).errors
    tasks = Tasks.of(errors, None if images is None else np.full(5, float(images)), "identity")
    state = State.start(tasks, 2).improved(tasks, "own")[0]
    certain = np.zeros_like(state.spread)
    found = tasks.explained(state.rows, certain, state.noise).log_likelihood
    for t, row in enumerate(errors):
        counted = 0.0 if tasks.binomial is None else tasks.binomial[t]
        model = FactorModel(state.rows[:, 0], state.rows[:, 1:], state.noise + counted)
        assert found[t] == pytest.approx(log_likelihood(model, row))
