from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import optuna
import pytest
from numpy.typing import ArrayLike
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from optuna_peppp.design import greedy_order, qr_order, random_order
from optuna_peppp.matrix import ErrorMatrix
from optuna_peppp.meta import MetaModel
from optuna_peppp.sampler import PEPPPSampler, Strategy
from optuna_peppp.space import ConfigurationSpace

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1", "1-4-3"], "learning_rate": [0.1, 0.01]})
D = len(SPACE)
ERRORS = np.array(
    [
        [0.9, 0.8, 0.5, 0.6, 0.3, 0.35],
        [0.8, 0.9, 0.4, 0.3, 0.2, 0.10],
        [0.7, 0.7, 0.6, 0.2, 0.1, 0.40],
        [0.6, 0.9, 0.2, 0.3, 0.5, 0.05],
    ]
)
MEMORY = np.array([100.0, 110.0, 200.0, 210.0, 300.0, 310.0])
META = MetaModel.fit(ErrorMatrix(SPACE, ("a", "b", "c", "d"), ERRORS, np.tile(MEMORY, (4, 1))))


def asked(sampler: PEPPPSampler, count: int = D) -> list[int]:
    """The configurations that ``count`` trials get, all of them left running."""
    study = optuna.create_study(sampler=sampler)
    return [SPACE.index(SPACE.suggest(study.ask())) for _ in range(count)]


def test_ed_mf_is_the_greedy_design() -> None:
    assert asked(PEPPPSampler(META, MEMORY, strategy="ed-mf")) == greedy_order(META.embeddings, D)


def test_ed_mf_goes_on_from_what_others_chose() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, strategy="ed-mf"))
    study.enqueue_trial(SPACE.params(5))
    study.enqueue_trial(SPACE.params(0))
    chosen = [SPACE.index(SPACE.suggest(study.ask())) for _ in range(D)]
    assert chosen == [5, 0, *greedy_order(META.embeddings, D, start=[0, 5])]


def test_ed_mf_learns_nothing_from_pruned_trials() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, strategy="ed-mf"))
    first = greedy_order(META.embeddings, 1)[0]
    trial = study.ask()
    assert SPACE.index(SPACE.suggest(trial)) == first
    study.tell(trial, state=TrialState.PRUNED)
    chosen = [SPACE.index(SPACE.suggest(study.ask())) for _ in range(D - 1)]
    assert chosen == greedy_order(META.embeddings, D, feasible=np.arange(D) != first)


def test_qr_mf_is_the_order_of_the_pivots() -> None:
    assert asked(PEPPPSampler(META, MEMORY, strategy="qr-mf")) == qr_order(ERRORS)


def test_random_mf_is_a_seeded_order() -> None:
    for seed in range(3):
        sampler = PEPPPSampler(META, MEMORY, strategy="random-mf", seed=seed)
        assert asked(sampler) == random_order(D, seed)


def test_random_mf_without_a_seed_differs_between_samplers() -> None:
    orders = {tuple(asked(PEPPPSampler(META, MEMORY, strategy="random-mf"))) for _ in range(8)}
    assert len(orders) > 1


def test_the_papers_design_is_the_default() -> None:
    assert asked(PEPPPSampler(META, MEMORY)) == greedy_order(META.embeddings, D)


@pytest.mark.parametrize("strategy", get_args(Strategy))
@pytest.mark.parametrize(("cap", "allowed"), [(210, 4), ("0.21 kB", 4), (209.5, 3), ("1GB", D)])
def test_measurement_cap(strategy: Strategy, cap: str | float, allowed: int) -> None:
    sampler = PEPPPSampler(META, MEMORY, strategy=strategy, measurement_cap=cap)
    assert sorted(asked(sampler, allowed)) == list(range(allowed))


@pytest.mark.parametrize("cap", ["99B", 99.9])
def test_measurement_cap_below_every_configuration(cap: str | float) -> None:
    with pytest.raises(ValueError, match=rf"measurement_cap .* smallest needs 100 B; got {cap!r}"):
        PEPPPSampler(META, MEMORY, measurement_cap=cap)


def test_measurement_cap_that_is_no_size() -> None:
    with pytest.raises(ValueError, match=r"size must be a positive number of bytes .* 'lots'"):
        PEPPPSampler(META, MEMORY, measurement_cap="lots")


def test_unknown_strategy() -> None:
    strategy: Any = "grid"
    with pytest.raises(ValueError, match="one of 'ed-mf', 'qr-mf', 'random-mf'; got 'grid'"):
        PEPPPSampler(META, MEMORY, strategy=strategy)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (MEMORY[:-1], r"memory must have shape \(6,\)"),
        (MEMORY.reshape(2, 3), r"memory must have shape \(6,\)"),
        (np.where(MEMORY == 200, np.nan, MEMORY), r"memory\[2\]"),
        (-MEMORY, r"memory\[0\]"),
    ],
)
def test_bad_memory(memory: ArrayLike, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PEPPPSampler(META, memory)


class _Spy(RandomSampler):
    """Records what is delegated to it."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.calls: list[object] = []

    def reseed_rng(self) -> None:
        self.calls.append("reseed_rng")

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.calls.append(("before_trial", trial.number))

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.calls.append(("after_trial", trial.number, state, values))


def test_the_independent_sampler_sees_every_trial() -> None:
    spy = _Spy()
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, independent_sampler=spy))
    study.tell(study.ask(), 0.5)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.sampler.reseed_rng()
    assert spy.calls == [
        ("before_trial", 0),
        ("after_trial", 0, TrialState.COMPLETE, [0.5]),
        ("before_trial", 1),
        ("after_trial", 1, TrialState.FAIL, None),
        "reseed_rng",
    ]


def test_reseeding_keeps_the_random_order() -> None:
    sampler = PEPPPSampler(META, MEMORY, strategy="random-mf", seed=0)
    sampler.reseed_rng()
    assert asked(sampler) == random_order(D, 0)


def test_the_seed_is_the_default_independent_samplers() -> None:
    def foreign(seed: int) -> float:
        study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY, seed=seed))
        return study.ask().suggest_float("x", 0, 1)

    assert foreign(0) == foreign(0) != foreign(1)


def test_sample_relative_answers_any_space() -> None:
    study = optuna.create_study(sampler=PEPPPSampler(META, MEMORY))
    study.ask()
    frozen = study.get_trials()[0]
    search_space = {"x": optuna.distributions.IntDistribution(3, 3), **SPACE.distributions()}
    params = study.sampler.sample_relative(study, frozen, search_space)
    assert params["x"] == 3
    assert SPACE.index(params) == greedy_order(META.embeddings, 1)[0]


def test_a_single_choice_is_never_asked_for() -> None:
    space = ConfigurationSpace({"format_a": ["1-4-3"], "learning_rate": [0.1, 0.01]})
    errors = np.array([[0.2, 0.1], [0.3, 0.2]])
    meta = MetaModel.fit(ErrorMatrix(space, ("a", "b"), errors, np.ones((2, 2))))
    study = optuna.create_study(sampler=PEPPPSampler(meta, [1, 1]))

    def objective(trial: Trial) -> float:
        return float(errors[0, space.index(space.suggest(trial))])

    study.optimize(objective, n_trials=4)
    assert sorted(trial.params["learning_rate"] for trial in study.trials) == [0.01, 0.1]
