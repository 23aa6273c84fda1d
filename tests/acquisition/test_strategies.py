from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, PEPPPSampler
from optuna_peppp.acquisition.strategies import PAPER, STRATEGIES, Progress
from optuna_peppp.choices import Strategy as StrategyName
from optuna_peppp.prediction import Prediction

D, SEED = 12, 7
_RNG = np.random.default_rng(0)
SPACE = ConfigurationSpace({"configuration": range(D)})
PAST = np.clip(0.5 + 0.1 * _RNG.normal(size=(8, 3)) @ _RNG.normal(size=(3, D)), 0, 1)
META = MetaModel.fit(ErrorMatrix(SPACE, tuple("abcdefgh"), PAST, np.ones((8, D))), rank=2)
MEMORY, TRUTH = _RNG.uniform(1, 2, D), _RNG.uniform(0.2, 0.8, D)
EVERYWHERE = np.ones(D, dtype=np.bool_)


def progress_of(indices: list[int], *, feasible: NDArray[np.bool_] = EVERYWHERE) -> Progress:
    return Progress(META, MEMORY, EVERYWHERE, feasible, indices, TRUTH[indices].tolist(), SEED)


def sampled(sampler: PEPPPSampler, meta: MetaModel, truth: NDArray[np.float64]) -> list[int]:
    """The first configurations that a study asks for, at most eight."""
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: truth[meta.space.index(meta.space.suggest(trial))], n_trials=8)
    return [meta.space.index(trial.params) for trial in study.trials]


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("strategy", get_args(StrategyName))
def test_strategies_choose_what_the_sampler_chooses(strategy: StrategyName, hidden: bool) -> None:
    cap = float(np.sort(MEMORY)[8]) if hidden else None
    feasible = np.less_equal(MEMORY, cap or MEMORY.max())
    sampler = PEPPPSampler(META, MEMORY, strategy=strategy, measurement_cap=cap, seed=SEED)
    expected = sampled(sampler, META, TRUTH)
    indices: list[int] = []
    for _ in expected:
        indices.append(STRATEGIES[strategy].choose(progress_of(indices, feasible=feasible)))
    assert indices == expected


def test_bayesian_chooses_otherwise_where_a_cap_hides_something() -> None:
    orders = []
    for feasible in (EVERYWHERE, np.arange(D) != MEMORY.argmax()):
        indices: list[int] = []
        for _ in range(6):
            indices.append(STRATEGIES["bayesian"].choose(progress_of(indices, feasible=feasible)))
        assert feasible[indices].all()
        orders.append(indices)
    assert int(MEMORY.argmax()) not in orders[0]
    assert orders[0] != orders[1]


def test_to_bayesian_what_is_not_considered_does_not_exist() -> None:
    """It chooses as the sampler of the others alone does, whatever the memory of the rest."""
    kept = np.array([1, 2, 4, 5, 7, 8, 11])
    considered = np.isin(np.arange(D), kept)
    alone = replace(
        META,
        space=ConfigurationSpace({"configuration": kept.tolist()}),
        errors=META.errors[:, kept],
        embeddings=META.embeddings[kept],
        mean=META.mean[kept],
        noise=META.noise[kept],
        prior=META.prior.restricted(kept),
        memory=np.ones((8, len(kept))),
    )
    expected = kept[sampled(PEPPPSampler(alone, MEMORY[kept]), alone, TRUTH[kept])].tolist()
    memory = np.where(considered, MEMORY, np.nan)
    indices: list[int] = []
    for _ in kept:
        errors = TRUTH[indices].tolist()
        progress = Progress(META, memory, considered, considered, indices, errors, SEED)
        indices.append(STRATEGIES["bayesian"].choose(progress))
    assert indices == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_offered_is_chosen_from_whatever_was_measured(strategy: str) -> None:
    for offered in ([4], [2, 9], [0, 5, 11]):
        chosen = STRATEGIES[strategy].choose(
            replace(progress_of([2, 4]), offered=np.isin(np.arange(D), offered))
        )
        assert chosen in offered


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_offered_need_not_be_feasible(strategy: str) -> None:
    """As where a user enqueues what is beyond the measurement cap."""
    feasible = np.arange(D) < 6
    progress = replace(progress_of([1], feasible=feasible), offered=~feasible)
    assert STRATEGIES[strategy].choose(progress) >= 6


@pytest.mark.parametrize("strategy", ["bayesian", "portfolio", "ed-mf"])
def test_what_is_live_counts_as_measured(strategy: str) -> None:
    """As if it had come out as expected."""
    progress = replace(progress_of([3]), live=[7], offered=~np.isin(np.arange(D), [3, 7]))
    expected = META.prior.condition([3], TRUTH[[3]]).moments().mean[7]
    measured = replace(progress_of([3, 7]), errors=[TRUTH[3], np.clip(expected, 0, 1)])
    assert STRATEGIES[strategy].choose(progress) == STRATEGIES[strategy].choose(measured)


def test_bayesian_begins_as_the_portfolio() -> None:
    choices = {STRATEGIES[name].choose(progress_of([])) for name in ("bayesian", "portfolio")}
    assert len(choices) == 1


def test_the_portfolio_is_a_fixed_order() -> None:
    """Whatever is found, and whatever memory the new task needs."""
    orders = set()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        memory, errors = rng.uniform(1, 2, D), rng.random(D)
        indices: list[int] = []
        for _ in range(D):
            found = errors[indices].tolist()
            progress = Progress(META, memory, EVERYWHERE, EVERYWHERE, indices, found, seed)
            indices.append(STRATEGIES["portfolio"].choose(progress))
        assert sorted(indices) == list(range(D))
        orders.add(tuple(indices))
    assert len(orders) == 1


def test_bayesian_measures_everything_once() -> None:
    indices: list[int] = []
    for _ in range(D):
        indices.append(STRATEGIES["bayesian"].choose(progress_of(indices)))
    assert sorted(indices) == list(range(D))


@pytest.mark.parametrize("indices", [[], [3], [3, 7, 0, 10]])
def test_predictions_are_the_papers_and_the_posteriors(indices: list[int]) -> None:
    progress = progress_of(indices)
    least_squares, _ = META.predict(indices, TRUTH[indices])
    for strategy in PAPER.values():
        np.testing.assert_array_equal(strategy.predict(progress), least_squares)
    expected = Prediction.from_measurements(META, MEMORY, indices, TRUTH[indices])
    unknown = ~expected.measured
    np.testing.assert_array_equal(
        STRATEGIES["bayesian"].predict(progress)[unknown], expected.mean[unknown]
    )


def test_every_strategy_of_the_sampler_can_be_evaluated() -> None:
    assert set(STRATEGIES) == set(get_args(StrategyName))
    assert set(PAPER) == set(STRATEGIES) - {"bayesian", "portfolio"}
