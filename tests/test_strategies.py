from __future__ import annotations

from typing import get_args

import numpy as np
import optuna
import pytest

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, PEPPPSampler
from optuna_peppp.sampler import Strategy
from optuna_peppp.strategies import STRATEGIES

D = 12


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_strategies_choose_what_the_sampler_chooses(strategy: Strategy) -> None:
    rng = np.random.default_rng(0)
    space = ConfigurationSpace({"configuration": range(D)})
    tasks = tuple(f"task {i}" for i in range(6))
    meta = MetaModel.fit(ErrorMatrix(space, tasks, rng.random((6, D)), np.ones((6, D))), rank=2)
    memory, truth, seed = rng.uniform(1, 2, D), rng.random(D), 7
    cap = float(np.median(memory))
    sampler = PEPPPSampler(meta, memory, strategy=strategy, measurement_cap=cap, seed=seed)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: truth[space.index(space.suggest(trial))], n_trials=5)
    sampled = [trial.params["configuration"] for trial in study.trials]
    indices: list[int] = []
    for _ in sampled:
        errors = truth[indices].tolist()
        indices.append(STRATEGIES[strategy](meta, memory <= cap, indices, errors, seed))
    assert indices == sampled


def test_every_strategy_of_the_sampler_can_be_evaluated() -> None:
    assert set(STRATEGIES) == set(get_args(Strategy))
