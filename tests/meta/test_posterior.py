from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats
from scipy.special import expit, logit

from optuna_peppp.meta.factor_model import FactorModel, explain
from optuna_peppp.meta.posterior import Posterior
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.transforms import Transform

Array = NDArray[np.float64]
BOTH: tuple[Transform, ...] = ("identity", "logit")


def some_prior(
    seed: int = 0, d: int = 7, transform: Transform = "identity", spread: float = 0.3
) -> TaskPrior:
    """Three models of different ranks at four scales."""
    rng = np.random.default_rng(seed)
    usual = rng.uniform(-1.5, 0.5, d) if transform == "logit" else rng.uniform(0.3, 0.7, d)
    models = tuple(
        FactorModel(
            usual + rng.normal(size=d) * spread / 2,
            rng.normal(size=(d, k)) * spread,
            rng.uniform(0.2, 2, d) * spread**2 / 4,
        )
        for k in (1, 2, 4)
    )
    scales = np.array([[0.5, 1], [1, 1], [1, 2.5], [3, 0.7]])
    weights = rng.dirichlet(np.full(12, 2.0)).reshape(3, 4)
    return TaskPrior(models, scales, weights, transform)


def one_model(
    mean: Any, loadings: Any, noise: Any, scales: Any = ((1, 1),), transform: Transform = "identity"
) -> TaskPrior:
    model = FactorModel(np.array(mean), np.array(loadings), np.array(noise))
    return TaskPrior(
        (model,), np.array(scales), np.full((1, len(scales)), 1 / len(scales)), transform
    )


def counting(errors: Array, images: int | None, transform: Transform) -> Array:
    """Variance of an error that is counted on images, by the formula of the docstring."""
    if images is None:
        return np.zeros_like(errors)
    share = (errors * images + 1) / (images + 2)
    steepness = 1 if transform == "identity" else 1 / (share * (1 - share))
    return np.asarray(share * (1 - share) / images * steepness**2)


@dataclass
class Component:
    """One Gaussian of the mixture in d dimensions."""

    model: FactorModel
    scale: tuple[float, float]
    log_joint: float
    mean: Array
    signal: Array
    noise: Array
    weight: float = 0.0


def dense(
    prior: TaskPrior, where: list[int], errors: list[float] | Array, images: int | None = None
) -> list[Component]:
    """Conditions every component as a Gaussian of d dimensions; distinct configurations."""
    measured = np.array(errors)
    is_logit = prior.transform == "logit"
    values = logit(measured) if is_logit else measured
    components = []
    for model, row in zip(prior.models, prior.weights, strict=True):
        for (a, b), weight in zip(prior.scales, row, strict=True):
            signal = a**2 * model.loadings @ model.loadings.T
            binomial = counting(measured, images, prior.transform)
            joint = signal[np.ix_(where, where)] + np.diag(b**2 * (model.noise[where] + binomial))
            log_joint = np.log(weight)
            mean, left = model.mean, signal
            if where:
                log_joint += stats.multivariate_normal.logpdf(values, model.mean[where], joint)
                gain = np.linalg.solve(joint, signal[where]).T
                mean = mean + gain @ (values - model.mean[where])
                left = left - gain @ signal[where]
            centre = expit(model.mean) if is_logit else np.clip(model.mean, 0, 1)
            noise = b**2 * (model.noise + counting(centre, images, prior.transform))
            components.append(Component(model, (a, b), log_joint, mean, left, noise))
    likelihoods = np.exp([c.log_joint - max(c.log_joint for c in components) for c in components])
    kept = likelihoods > 1e-4
    for component, likelihood in zip(components, likelihoods, strict=True):
        component.weight = likelihood / likelihoods[kept].sum()
    return [component for component, keep in zip(components, kept, strict=True) if keep]


def merged(components: list[Component]) -> tuple[Array, Array, Array]:
    """Mean, covariance of the signal and variance of the noise of a mixture."""
    mean = sum((c.weight * c.mean for c in components), np.zeros_like(components[0].mean))
    signal = sum(
        (c.weight * (c.signal + np.outer(c.mean - mean, c.mean - mean)) for c in components),
        np.zeros((len(mean), len(mean))),
    )
    noise = sum((c.weight * c.noise for c in components), np.zeros_like(mean))
    return mean, signal, noise


def assert_same(one: Posterior, other: Posterior) -> None:
    assert len(one.parts) == len(other.parts)
    for ours, theirs in zip(one.parts, other.parts, strict=True):
        assert ours.scales.tolist() == theirs.scales.tolist()
        for name in ("noise", "weights", "latent", "covariance"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-12)


measurements = st.lists(
    st.tuples(st.integers(0, 6), st.floats(0.05, 0.95)), max_size=6, unique_by=lambda pair: pair[0]
)


@pytest.mark.parametrize("transform", BOTH)
@pytest.mark.parametrize("images", [None, 50])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 100), measurements)
def test_every_component_is_that_of_the_dense_computation(
    transform: Transform, images: int | None, seed: int, measured: list[tuple[int, float]]
) -> None:
    prior = some_prior(seed, transform=transform)
    where, errors = [j for j, _ in measured], [error for _, error in measured]
    posterior = prior.condition(where, errors, test_images=images)
    found = [
        Component(
            part.model,
            (scale[0], scale[1]),
            0.0,
            part.model.mean + part.model.loadings @ latent,
            part.model.loadings @ covariance @ part.model.loadings.T,
            scale[1] ** 2 * part.noise,
            weight,
        )
        for part in posterior.parts
        for weight, scale, latent, covariance in zip(
            part.weights, part.scales, part.latent, part.covariance, strict=True
        )
    ]
    expected = dense(prior, where, errors, images)
    assert [(id(c.model), c.scale) for c in found] == [(id(c.model), c.scale) for c in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.weight == pytest.approx(theirs.weight, rel=1e-7)
        assert ours.mean == pytest.approx(theirs.mean, abs=1e-9)
        assert ours.signal == pytest.approx(theirs.signal, abs=1e-9)
        assert ours.noise == pytest.approx(theirs.noise, rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 100), measurements)
def test_moments_are_those_of_the_dense_mixture(
    seed: int, measured: list[tuple[int, float]]
) -> None:
    prior = some_prior(seed)
    where, errors = [j for j, _ in measured], [error for _, error in measured]
    moments = prior.condition(where, errors, test_images=100).moments()
    mean, signal, noise = merged(dense(prior, where, errors, 100))
    assert moments.mean == pytest.approx(mean, abs=1e-9)
    assert moments.directions @ moments.latent @ moments.directions.T == pytest.approx(
        signal, abs=1e-9
    )
    assert moments.signal == pytest.approx(np.diag(signal), abs=1e-9)
    assert moments.noise == pytest.approx(noise, abs=1e-9)
    assert moments.std == pytest.approx(np.sqrt(np.diag(signal) + noise), abs=1e-9)


def test_by_hand() -> None:
    # x_0 = 0.5 + 0.2 z + noise of 0.04: prior variance 0.08, so half of what is seen is believed.
    prior = one_model([0.5, 0.3], [[0.2], [0.4]], [0.04, 0.01])
    moments = prior.condition([0], [0.6]).moments()
    assert moments.mean == pytest.approx([0.55, 0.4])
    assert moments.signal == pytest.approx([0.02, 0.08])
    assert moments.noise == pytest.approx([0.04, 0.01])


def test_many_tasks_are_explained_at_once_as_one_by_one() -> None:
    rng = np.random.default_rng(3)
    n, d, k = 6, 5, 2
    loadings, residuals = rng.normal(size=(d, k)), rng.normal(size=(n, d))
    noise, observed = rng.uniform(0.5, 2, (n, d)), rng.random((n, d)) < 0.6
    observed[0] = False
    scales = np.array([[1, 1], [0.5, 2], [4, 0.3]])
    weights = observed / noise
    found = explain(
        np.einsum("nd,dk,dl->nkl", weights, loadings, loadings),
        (weights * residuals) @ loadings,
        (weights * residuals**2).sum(axis=1),
        (observed * np.log(noise)).sum(axis=1),
        np.count_nonzero(observed, axis=1),
        scales,
    )
    latent, covariance, likelihood = found.latent, found.covariance, found.log_likelihood
    assert latent.shape == (n, 3, k)
    shares = rng.random((n, 3))
    firsts, seconds = found.moments(shares)
    assert firsts == pytest.approx(np.einsum("ng,ngk->nk", shares, latent))
    around = covariance + latent[..., None] * latent[..., None, :]
    assert seconds == pytest.approx(np.einsum("ng,ngkl->nkl", shares, around))
    for t, (seen, residual) in enumerate(zip(observed, residuals, strict=True)):
        for g, (a, b) in enumerate(scales):
            y = loadings[seen]
            joint = a**2 * y @ y.T + b**2 * np.diag(noise[t, seen])
            expected = 0.0
            if seen.any():
                expected = stats.multivariate_normal.logpdf(residual[seen], None, joint)
            assert likelihood[t, g] == pytest.approx(expected)
            gain = a**2 * y.T @ np.linalg.inv(joint)
            assert latent[t, g] == pytest.approx(gain @ residual[seen])
            assert covariance[t, g] == pytest.approx(a**2 * (np.eye(k) - gain @ y))


@pytest.mark.parametrize("transform", BOTH)
def test_without_measurements_the_prior_stays(transform: Transform) -> None:
    prior = some_prior(transform=transform)
    posterior = prior.condition([], [])
    assert [part.model for part in posterior.parts] == list(prior.models)
    for part, weights in zip(posterior.parts, prior.weights, strict=True):
        assert part.weights == pytest.approx(weights)
        assert part.scales.tolist() == prior.scales.tolist()
        assert not part.latent.any()
        k = part.latent.shape[1]
        assert part.covariance == pytest.approx(
            prior.scales[:, 0, None, None] ** 2 * np.eye(k), rel=1e-12
        )
        assert part.noise.tolist() == part.model.noise.tolist()


def test_components_that_explain_nothing_are_left_out() -> None:
    prior = some_prior()
    far = prior.condition([0, 1, 2], [1.0, 0.0, 1.0])
    kept = sum(len(part.weights) for part in far.parts)
    assert kept < prior.weights.size
    assert sum(part.weights.sum() for part in far.parts) == pytest.approx(1)


@pytest.mark.parametrize("transform", BOTH)
def test_repeats_are_averaged(transform: Transform) -> None:
    prior = some_prior(transform=transform)
    repeated = prior.condition([2, 5, 2, 2], [0.2, 0.7, 0.3, 0.7], test_images=80)
    assert_same(repeated, prior.condition([2, 5], [0.4, 0.7], test_images=80))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1)), min_size=1, max_size=8), st.data())
@pytest.mark.parametrize("transform", BOTH)
def test_the_order_of_measurements_does_not_matter(
    transform: Transform, measured: list[tuple[int, float]], data: st.DataObject
) -> None:
    prior = some_prior(transform=transform)
    shuffled = data.draw(st.permutations(measured))
    assert_same(
        prior.condition(*map(list, zip(*measured, strict=True))),
        prior.condition(*map(list, zip(*shuffled, strict=True))),
    )


@pytest.mark.parametrize("surprising", ["signal", "noise"])
def test_surprises_shift_weight_to_the_scale_that_explains_them(surprising: str) -> None:
    prior = one_model(
        np.full(4, 0.5), np.full((4, 1), 0.02), np.full(4, 4e-4), [[1, 1], [8, 1], [1, 8]]
    )
    # All errors off alike are the latent's doing, errors off by turns are noise.
    pattern = np.ones(4) if surprising == "signal" else np.array([1, -1, 1, -1])
    usual, explaining = [], []
    for size in (0.0, 0.04, 0.08, 0.16, 0.32):
        part = prior.condition(range(4), 0.5 + size * pattern).parts[0]
        shares = {tuple(s): w for s, w in zip(part.scales.tolist(), part.weights, strict=True)}
        usual.append(shares.get((1.0, 1.0), 0.0))
        explaining.append(shares.get((8.0, 1.0) if surprising == "signal" else (1.0, 8.0), 0.0))
    assert usual == sorted(usual, reverse=True)
    assert explaining == sorted(explaining)
    assert usual[0] > 0.5
    assert explaining[-1] > 0.99


def test_a_surprise_is_followed_and_not_averaged_away() -> None:
    loadings = np.full((40, 1), 0.02)
    stiff = one_model(np.full(40, 0.3), loadings, np.full(40, 4e-4))
    heavy = one_model(np.full(40, 0.3), loadings, np.full(40, 4e-4), [[1, 1], [10, 1]])
    followed, averaged = (p.condition([3], [0.6]).moments().mean[0] for p in (heavy, stiff))
    assert averaged == pytest.approx(0.45)
    assert followed > 0.58


def test_moments_are_those_of_draws() -> None:
    prior = some_prior(4, d=5, spread=0.015)
    posterior = prior.condition([1, 3], prior.models[1].mean[[1, 3]] + 0.01, test_images=500)
    moments, count = posterior.moments(), 200_000
    draws = posterior.draws(count, seed=0)
    assert (draws > 0).all()
    assert (draws < 1).all()
    assert np.abs(draws.mean(axis=0) - moments.mean).max() < 4 * moments.std.max() / count**0.5
    covariance = moments.directions @ moments.latent @ moments.directions.T
    covariance += np.diag(moments.noise)
    spread = np.sqrt(np.diag(covariance))
    assert np.abs((np.cov(draws.T) - covariance) / np.outer(spread, spread)).max() < 0.02


@pytest.mark.parametrize("transform", BOTH)
def test_draws_have_the_distribution_of_the_mixture(transform: Transform) -> None:
    prior = some_prior(5, transform=transform, spread=0.4 if transform == "logit" else 0.02)
    where = [0, 4]
    usual = prior.models[1].mean[where] * 0.95
    errors = expit(usual) if transform == "logit" else usual
    draws = prior.condition(where, errors, test_images=200).draws(20_000, seed=1)
    values = logit(draws) if transform == "logit" else draws
    ranks = np.zeros_like(draws)
    for c in dense(prior, where, errors, 200):
        ranks += c.weight * stats.norm.cdf(values, c.mean, np.sqrt(np.diag(c.signal) + c.noise))
    for column in ranks.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_draws_stay_between_0_and_1_and_hang_on_the_seed() -> None:
    prior = one_model([0.05, 0.95, 0.5], [[0.2], [0.2], [0.0]], np.full(3, 0.01))
    posterior = prior.condition([], [])
    draws = posterior.draws(500, seed=7)
    assert draws.shape == (500, 3)
    assert draws.min() == 0
    assert draws.max() == 1
    assert np.array_equal(draws, posterior.draws(500, seed=7))
    assert not np.array_equal(draws, posterior.draws(500, seed=8))
    assert posterior.draws(0, seed=7).shape == (0, 3)


def test_draws_of_many_are_independent_of_the_blocks_that_make_them() -> None:
    rng = np.random.default_rng(0)
    d = 20_000
    models = tuple(
        FactorModel(np.full(d, centre), rng.normal(size=(d, 2)) * 1e-4, np.full(d, 1e-4))
        for centre in (0.25, 0.75)
    )
    prior = TaskPrior(models, np.ones((1, 2)), np.array([[0.5], [0.5]]))
    draws = prior.condition([], []).draws(600, seed=0)
    half = np.repeat([0.25, 0.75], 300)
    np.testing.assert_allclose(draws.mean(axis=1), half, atol=0.002)
    noise = (draws - half[:, None])[:, :100]
    assert np.abs(np.corrcoef(noise) - np.eye(600)).max() < 0.6


def test_every_component_has_its_share_of_the_draws() -> None:
    # Components so far apart that a draw tells where it comes from.
    models = tuple(
        FactorModel(np.full(2, centre), np.full((2, 1), 1e-3), np.full(2, 1e-6))
        for centre in (0.2, 0.5, 0.8)
    )
    prior = TaskPrior(models, np.ones((1, 2)), np.array([[0.5], [0.3], [0.2]]))
    draws = prior.condition([], []).draws(10, seed=0)[:, 0]
    assert np.bincount(np.digitize(draws, [0.35, 0.65])).tolist() == [5, 3, 2]


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0, 1.5])
def test_logit_moments_are_integrals_over_the_merged_gaussian(spread: float) -> None:
    prior = one_model(
        [-3.0, -1.0, 0.5], np.array([[1], [-0.5], [0.8]]) * spread,
        np.array([0.1, 0.3, 0.5]) * spread**2, [[1, 1], [0.5, 2], [2, 1]], "logit",
    )  # fmt: skip
    moments = prior.condition([0], [0.06]).moments()
    mean, signal, noise = merged(dense(prior, [0], [0.06]))
    total = np.diag(signal) + noise
    for j in range(3):

        def expected(power: int, j: int = j) -> float:
            gaussian = stats.norm(mean[j], total[j] ** 0.5)
            value, _ = integrate.quad(
                lambda x: expit(x) ** power * gaussian.pdf(x), *gaussian.ppf([1e-12, 1 - 1e-12])
            )
            return float(value)

        centre = expected(1)
        assert moments.mean[j] == pytest.approx(centre, abs=2e-4)
        assert moments.std[j] == pytest.approx((expected(2) - centre**2) ** 0.5, rel=0.02)
    # What is signal and what noise, and how signals hang together, is as on the logit's scale.
    assert moments.signal / moments.noise == pytest.approx(np.diag(signal) / noise)
    covariance = moments.directions @ moments.latent @ moments.directions.T
    assert np.diag(covariance) == pytest.approx(moments.signal)
    shrunk = np.sqrt(moments.signal / np.diag(signal))
    assert covariance == pytest.approx(signal * np.outer(shrunk, shrunk))


def test_logit_moments_are_close_to_those_of_draws() -> None:
    # Not equal: scales are merged before the logit is undone.
    posterior = some_prior(2, transform="logit").condition([1, 5], [0.2, 0.45])
    moments, draws = posterior.moments(), posterior.draws(100_000, seed=0)
    assert moments.mean == pytest.approx(draws.mean(axis=0), abs=0.005)
    assert moments.std == pytest.approx(draws.std(axis=0), rel=0.05)


@pytest.mark.parametrize("transform", BOTH)
def test_few_test_images_are_believed_less(transform: Transform) -> None:
    prior = one_model([0.4, 0.4], [[0.2], [0.2]], [0.001, 0.001], transform=transform)
    each = [prior.condition([0], [0.8], test_images=n).moments() for n in (10, 100, 1000, None)]
    followed = [moments.mean[1] for moments in each]
    assert followed == sorted(followed)
    noise = [moments.noise[1] for moments in each]
    assert noise == sorted(noise, reverse=True)


def test_ten_thousand_configurations_need_no_square_matrix() -> None:
    d, m = 10_000, 100
    rng = np.random.default_rng(0)
    models = tuple(
        FactorModel(rng.normal(size=d), rng.normal(size=(d, k)), np.full(d, 0.1))
        for k in (2, 3, 4, 5)
    )
    scales = rng.uniform(0.5, 2, (45, 2))
    prior = TaskPrior(models, scales, np.full((4, 45), 1 / 180), "logit")
    where = rng.permutation(d)[:m]
    tracemalloc.start()
    prior.condition(where, rng.random(m), test_images=100).moments()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Some hundred numbers per configuration; a (d, d) matrix would have ten thousand.
    assert peak < 200 * d * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": [0.1, 0.0]}, r"noise must be positive; got 0\.0"),
        ({"noise": [0.1, -1.0]}, r"noise must be positive; got -1\.0"),
        ({"noise": [0.1]}, r"noise must be finite with shape \(2,\); got \(1,\)"),
        ({"noise": [0.1, np.inf]}, "noise must be finite"),
        ({"mean": [0.1, np.nan]}, "mean must be finite"),
        ({"mean": [[0.1, 0.2]]}, r"mean must be finite with shape \(2,\); got \(1, 2\)"),
        ({"loadings": [[np.nan], [1.0]]}, "loadings must be finite"),
    ],
)
def test_bad_models_are_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"mean": [0.1, 0.2], "loadings": [[1.0], [2.0]], "noise": [0.1, 0.1]}
    FactorModel(**good)
    with pytest.raises(ValueError, match=message):
        FactorModel(**(good | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transform": "log"}, r"transform must be one of \('identity', 'logit'\); got 'log'"),
        ({"scales": [[1.0, 0.0]]}, "scales and weights must be positive"),
        ({"scales": [[1.0]]}, r"scales must be finite with shape \(1, 2\); got \(1, 1\)"),
        ({"weights": [[0.0]]}, "scales and weights must be positive"),
        ({"weights": [[0.5, 0.5]]}, r"weights must be finite with shape \(1, 1\); got \(1, 2\)"),
        ({"weights": [[np.nan]]}, "weights must be finite"),
    ],
)
def test_bad_priors_are_refused(change: dict[str, Any], message: str) -> None:
    model = FactorModel(np.zeros(2), np.ones((2, 1)), np.ones(2))
    good: dict[str, Any] = {"models": (model,), "scales": [[1.0, 1.0]], "weights": [[1.0]]}
    TaskPrior(**good)
    with pytest.raises(ValueError, match=message):
        TaskPrior(**(good | change))


def test_records_keep_copies_that_cannot_be_written_to() -> None:
    mean = np.zeros(2)
    model = FactorModel(mean, np.ones((2, 1)), np.ones(2))
    mean[0] = 5
    assert model.mean.tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        model.noise[0] = 2
