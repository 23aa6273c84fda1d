from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats
from scipy.special import expit

from optuna_peppp.meta.averaging import Fitted, Learned, _ranked_probability_score, _weights, learn
from optuna_peppp.meta.factor_analysis import EXPECTED
from optuna_peppp.meta.observations import SCALES
from optuna_peppp.meta.prior import TaskPrior
from optuna_peppp.meta.transforms import Transform

Array = NDArray[np.float64]
BOTH: tuple[Transform, ...] = ("identity", "logit")


def ranks_of(learned: Learned) -> tuple[int, ...]:
    return tuple(model.rank for model in learned.prior.models)


class Source:
    """Tasks whose errors a factor model generates, on the scale of a transform."""

    def __init__(
        self,
        transform: Transform = "identity",
        *,
        d: int = 40,
        rank: int = 2,
        noise: float | Array = 0.02,
        spread: float = 0.05,
        seed: int = 0,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.transform, self.noise = transform, noise
        self.mean = self.rng.uniform(-3, 0, d) if transform == "logit" else self.rng.uniform(
            0.3, 0.6, d
        )  # fmt: skip
        self.loadings = self.rng.normal(size=(d, rank)) * spread

    def tasks(self, count: int, *, latents: Array | None = None) -> Array:
        d, rank = self.loadings.shape
        z = self.rng.normal(size=(count, rank)) if latents is None else latents
        values = self.mean + z @ self.loadings.T + self.rng.normal(size=(count, d)) * self.noise
        return np.clip(expit(values) if self.transform == "logit" else values, 0, 1)


def usual_only(prior: TaskPrior) -> TaskPrior:
    """The same models, at scales of 1 only."""
    weights = prior.weights.sum(axis=1, keepdims=True)
    return TaskPrior(prior.models, np.ones((1, 2)), weights, prior.transform)


def scores(learned: Learned) -> dict[tuple[str, str], float]:
    return {(c.transform, c.noise): c.score for c in learned.candidates}


@pytest.mark.parametrize("seed", range(4))
def test_the_transform_of_the_truth_is_chosen(seed: int) -> None:
    linear = learn(Source(seed=seed).tasks(30))
    assert linear.candidates[0].transform == linear.prior.transform == "identity"
    odds = learn(Source("logit", noise=0.2, spread=0.8, seed=seed).tasks(30))
    assert odds.candidates[0].transform == odds.prior.transform == "logit"
    # Not by a hair.
    assert min(score for (t, _), score in scores(odds).items() if t == "identity") > (
        1.1 * odds.candidates[0].score
    )


@pytest.mark.parametrize("seed", range(4))
def test_noise_that_differs_is_each_configurations_own(seed: int) -> None:
    noise = np.where(np.arange(40) % 2, 0.005, 0.05)
    learned = learn(Source(noise=noise, seed=seed).tasks(30))
    assert learned.candidates[0].noise == "own"
    by_noise = scores(learned)
    assert by_noise["identity", "shared"] > 1.05 * by_noise["identity", "own"]
    for model in learned.prior.models:
        assert (model.noise[noise > 0.01].min() > model.noise[noise < 0.01]).all()


def test_noise_that_is_equal_is_shared() -> None:
    chosen = [
        learn(Source(noise=0.05, spread=0.02, seed=seed).tasks(30)).candidates[0].noise
        for seed in range(6)
    ]
    assert chosen.count("shared") >= 4


@pytest.mark.parametrize("seed", range(4))
def test_ranks_that_are_too_low_get_no_weight(seed: int) -> None:
    learned = learn(Source(d=60, rank=3, noise=0.002, seed=seed).tasks(40))
    assert ranks_of(learned) == (2, 3, 4, 5)
    two, *rest = learned.prior.weights.sum(axis=1)
    # Higher ranks than the truth's predict as well: their further dimensions shrink away.
    assert two < 0.05
    assert sum(rest) == pytest.approx(1 - two)


@pytest.mark.parametrize(("n", "ranks"), [(2, (1,)), (3, (2,)), (4, (2, 3)), (9, (2, 3, 4, 5))])
def test_ranks_go_as_far_as_there_are_tasks(n: int, ranks: tuple[int, ...]) -> None:
    learned = learn(Source(d=12).tasks(n))
    assert ranks_of(learned) == ranks
    assert [model.loadings.shape for model in learned.prior.models] == [(12, k) for k in ranks]


def test_ranks_go_as_far_as_there_are_configurations() -> None:
    assert ranks_of(learn(Source(d=3).tasks(9))) == (2,)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_a_rank_that_is_given_is_kept(rank: int) -> None:
    learned = learn(Source(d=12).tasks(10), rank=rank)
    assert ranks_of(learned) == (rank,)
    assert learned.prior.models[0].loadings.shape == (12, rank)


def test_two_tasks_tell_of_those_between_them() -> None:
    for seed in range(4):
        source = Source(rank=1, spread=0.1, seed=seed)
        prior = learn(source.tasks(2, latents=np.array([[-1.0], [1.0]]))).prior
        new = source.tasks(20, latents=np.linspace(-1, 1, 20)[:, None])
        telling = np.abs(source.loadings[:, 0]).argsort()[-2:]
        before, after = (
            np.mean([np.abs(row - prior.condition(w, row[w]).moments().mean) for row in new])
            for w in (telling[:0], telling)
        )
        assert after < 0.7 * before


def test_what_is_learned_is_a_prior_of_all_scales() -> None:
    learned = learn(Source().tasks(12))
    assert learned.prior.scales.tolist() == SCALES.tolist()
    assert learned.prior.weights.sum() == pytest.approx(1)
    found = [(c.transform, c.noise) for c in learned.candidates]
    assert sorted(found) == [
        (transform, noise) for transform in BOTH for noise in ("own", "shared")
    ]
    each = [c.score for c in learned.candidates]
    assert each == sorted(each)
    assert 0.0 < each[0] < 0.1


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_the_covariance_of_the_truth_is_learned(missing: float) -> None:
    source = Source(d=30)
    errors = source.tasks(200)
    errors[source.rng.random(errors.shape) < missing] = np.nan
    moments = learn(errors, rank=2).prior.condition([], []).moments()
    covariance = moments.directions @ moments.latent @ moments.directions.T
    expected = source.loadings @ source.loadings.T
    assert np.linalg.norm(covariance - expected) < 0.25 * np.linalg.norm(expected)
    assert moments.noise.mean() == pytest.approx(4e-4, rel=0.2)


@pytest.mark.parametrize("transform", BOTH)
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_intervals_are_calibrated(transform: Transform, missing: float) -> None:
    hits: dict[int, list[float]] = {1: [], 3: [], 6: [], 12: []}
    for seed in range(3):
        source = Source(
            transform,
            d=50,
            rank=3,
            noise=0.02 if transform == "identity" else 0.2,
            spread=0.04 if transform == "identity" else 0.5,
            seed=seed,
        )
        past = source.tasks(40)
        past[source.rng.random(past.shape) < missing] = np.nan
        prior = learn(past).prior
        for row in source.tasks(30):
            order = source.rng.permutation(50)
            for count, hit in hits.items():
                measured, rest = order[:count], order[count:]
                moments = prior.condition(measured, row[measured]).moments()
                away = np.abs(row - moments.mean) / moments.std
                hit.append(float(np.mean(away[rest] < stats.norm.ppf(0.95))))
    for count, hit in hits.items():
        assert 0.85 < np.mean(hit) < 0.95, f"after {count}"


def test_a_task_far_out_is_followed_after_few_measurements() -> None:
    errors: dict[str, list[float]] = {"before": [], "after": [], "stiff": []}
    for seed in range(5):
        source = Source(noise=0.01, spread=0.02, seed=seed)
        prior = learn(source.tasks(40), rank=2).prior
        far = source.tasks(1, latents=np.array([[8.0, -8.0]]))[0]
        order = source.rng.permutation(40)
        measured, rest = order[:3], order[3:]
        for name, known, count in (
            ("before", prior, 0), ("after", prior, 3), ("stiff", usual_only(prior), 3)
        ):  # fmt: skip
            moments = known.condition(measured[:count], far[measured[:count]]).moments()
            errors[name].append(float(np.abs(moments.mean - far)[rest].mean()))
    assert np.mean(errors["after"]) < np.mean(errors["before"]) / 3
    assert np.mean(errors["after"]) < np.mean(errors["stiff"])


def test_a_task_that_is_nothing_like_the_past_makes_uncertain() -> None:
    for seed in range(3):
        source = Source(noise=0.01, spread=0.02, seed=seed)
        prior = learn(source.tasks(40)).prior
        order = source.rng.permutation(40)[:6]
        alike = prior.condition(order, source.tasks(1)[0, order]).moments()
        unlike = prior.condition(order, source.rng.uniform(0.2, 0.8, 6)).moments()
        assert unlike.std.mean() > 3 * alike.std.mean()


def test_every_task_may_have_its_own_number_of_test_images() -> None:
    errors = Source(d=12).tasks(8)
    one, each = learn(errors, test_images=100), learn(errors, test_images=[100] * 8)
    assert str(one) == str(each)
    assert np.array_equal(one.prior.weights, each.prior.weights)
    assert str(learn(errors)) != str(one)
    others = learn(errors, test_images=[100] * 7 + [10_000])
    assert str(others) != str(one)


def test_missing_entries_have_no_say() -> None:
    errors = Source(d=12).tasks(8)
    errors[0, :7] = errors[3, 2] = np.nan
    learned = learn(errors)
    assert all(np.isfinite(model.loadings).all() for model in learned.prior.models)
    assert np.isfinite(learned.candidates[0].score)
    # A task of a single measurement leaves nothing to predict, and does not count.
    single = np.vstack((errors, np.where(np.arange(12) == 5, 0.5, np.nan)))
    assert np.isfinite(learn(single).candidates[0].score)


def test_learning_is_deterministic() -> None:
    errors = Source(d=12).tasks(8)
    one, other = learn(errors), learn(errors)
    assert str(one) == str(other)
    assert np.array_equal(one.prior.weights, other.prior.weights)


def test_learned_tells_how_it_chose() -> None:
    learned = learn(Source(d=12).tasks(4))
    text = str(learned)
    shares = learned.prior.weights.sum(axis=1)
    assert text.startswith(
        f"Factor models of the tasks, by rank and weight: 2: {shares[0]:.0%}, 3: {shares[1]:.0%}. "
    )
    best, second, third, fourth = learned.candidates
    assert f"tasks: {best} (chosen); {second}; {third}; {fourth}." in text
    assert str(best) == f"{best.transform}, {best.noise} noise: {best.score:.5f}"


@pytest.mark.parametrize(("away", "std"), [(0.0, 1.0), (0.3, 0.1), (-2.0, 0.7)])
def test_the_score_is_the_integral_that_defines_it(away: float, std: float) -> None:
    def squared(x: float) -> float:
        return float((stats.norm.cdf(x / std) - (x >= away)) ** 2)

    expected = integrate.quad(squared, -12, away)[0] + integrate.quad(squared, away, 12)[0]
    found = _ranked_probability_score(np.array([away]), np.array([std]))
    assert found == pytest.approx([expected], abs=1e-7)


def test_weights_are_counts_where_every_task_tells_its_component() -> None:
    # Nine tasks of the first model at scale 3, one of the second at scale 7.
    likelihood = np.full((10, 2, len(EXPECTED)), -1e4)
    likelihood[:9, 0, 3] = likelihood[9, 1, 7] = 0.0
    expected = np.stack((EXPECTED, EXPECTED)) / 2
    expected[0, 3] += 9
    expected[1, 7] += 1
    assert _weights(likelihood) == pytest.approx(expected / 11)


def test_weights_where_tasks_tell_nothing_stay_as_expected() -> None:
    assert _weights(np.zeros((5, 3, len(EXPECTED)))) == pytest.approx(np.stack([EXPECTED / 3] * 3))


def test_weights_make_tasks_more_likely_than_any_shift_of_them() -> None:
    rng = np.random.default_rng(0)
    likelihood = rng.normal(size=(20, 1, len(EXPECTED))) * 3

    def objective(weights: Array) -> float:
        each = np.log((np.exp(likelihood[:, 0]) * weights).sum(axis=1))
        return float(each.sum() + EXPECTED @ np.log(weights))

    found = _weights(likelihood)[0]
    for _ in range(50):
        shifted = found * np.exp(rng.normal(size=len(EXPECTED)) * 0.3)
        assert objective(shifted / shifted.sum()) < objective(found)


def test_a_hundred_tasks_are_left_out_at_most() -> None:
    few, many = Source(d=8).tasks(40), Source(d=8).tasks(130)
    fitted = [Fitted.to(e, None, "identity", "own", 2) for e in (few, many, many)]
    assert fitted[0].indices.tolist() == list(range(40))
    assert len(set(fitted[1].indices.tolist())) == len(fitted[1].left_out) == 100
    assert fitted[1].indices.tolist() == fitted[2].indices.tolist()
    assert fitted[1].likelihood.shape == (100, len(SCALES))
