"""Studies of one objective, where Optuna lets its pruners work: memory is known all the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from optuna.trial import TrialState

from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, PEPPPSampler, predict

SPACE = ConfigurationSpace({"width": [1, 2, 4, 8], "depth": [1, 2, 3, 4, 5]})
EPOCHS = 9
TRIALS = 12

PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "median": lambda: MedianPruner(n_startup_trials=2),
    "percentile": lambda: PercentilePruner(25.0, n_startup_trials=2),
    "halving": SuccessiveHalvingPruner,
    "hyperband": lambda: HyperbandPruner(max_resource=EPOCHS),
    "threshold": lambda: ThresholdPruner(upper=0.5, n_warmup_steps=6),
    "patient": lambda: PatientPruner(MedianPruner(n_startup_trials=2), patience=1),
    "wilcoxon": WilcoxonPruner,
}


def past_tasks() -> ErrorMatrix:
    """Four tasks whose errors fall with width and depth."""
    rng = np.random.default_rng(0)
    quality = np.add.outer(np.log2(SPACE.choices["width"]), np.log2(SPACE.choices["depth"])).ravel()
    errors = 0.7 - rng.uniform(0.08, 0.12, (5, 1)) * quality + rng.uniform(0, 0.01, (5, len(SPACE)))
    memory = np.multiply.outer(SPACE.choices["width"], SPACE.choices["depth"]).ravel()
    return ErrorMatrix(SPACE, tuple("abcde"), errors, np.tile(1e6 * memory, (5, 1)))


TASKS = past_tasks()
META = MetaModel.fit(TASKS.rows(range(1, 5)), rank=1)
MEMORY = TASKS.memory[0]


def run(pruner: BasePruner, cap: float | None = None) -> optuna.Study:
    """A study of one objective, whose trainings report errors that fall, and rise at the end."""

    def objective(trial: optuna.Trial) -> float:
        error = float(TASKS.errors[0, SPACE.index(SPACE.suggest(trial))])
        for epoch in range(EPOCHS):
            overfitted = 0.02 * max(epoch - 5, 0)
            trial.report(error + (1 - error) * 0.5 ** (epoch + 1) + overfitted, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return error

    sampler = PEPPPSampler(META, MEMORY, seed=0, measurement_cap=cap)
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=TRIALS)
    return study


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_works(name: str) -> None:
    study = run(PRUNERS[name]())
    asked = [SPACE.index(trial.params) for trial in study.trials]
    assert len(set(asked)) == TRIALS
    states = {trial.state for trial in study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    prediction = predict(study, META, MEMORY)
    assert prediction.measured.sum() == len(study.get_trials(states=[TrialState.COMPLETE]))
    assert prediction.recommend(8e6).memory <= 8e6


def test_it_asks_as_in_a_study_of_two_objectives() -> None:
    asked = [SPACE.index(trial.params) for trial in run(NopPruner()).trials]
    both = optuna.create_study(
        directions=["minimize", "minimize"], sampler=PEPPPSampler(META, MEMORY, seed=0)
    )
    for expected in asked:
        trial = both.ask()
        index = SPACE.index(SPACE.suggest(trial))
        assert index == expected
        both.tell(trial, [float(TASKS.errors[0, index]), float(MEMORY[index])])


def test_it_heeds_a_measurement_cap() -> None:
    asked = [SPACE.index(trial.params) for trial in run(NopPruner(), cap=10e6).trials]
    assert MEMORY[asked].max() <= 10e6 < MEMORY.max()
