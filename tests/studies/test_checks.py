from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.study import Study
from optuna.trial import Trial, create_trial

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.meta.model import MetaModel
from optuna_peppp.studies.results import predict
from optuna_peppp.studies.sampler import PEPPPSampler

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-3"], "format_b": ["1-6-7", "1-7-7"]})
MEMORY = np.array([1e6, 2e6, 3e6, 4e6])
ERRORS = np.array([[0.5, 0.4, 0.3, 0.2], [0.6, 0.5, 0.3, 0.3], [0.7, 0.4, 0.4, 0.1]])
MATRIX = ErrorMatrix(SPACE, ("a", "b", "c"), ERRORS, np.tile(MEMORY, (3, 1)))
META = MetaModel.fit(MATRIX, rank=1)


def study_of(objectives: int = 2) -> Study:
    return optuna.create_study(
        study_name="task",
        directions=["minimize"] * objectives,
        sampler=PEPPPSampler(META, MEMORY),
    )


def add(study: Study, index: int, *values: float) -> None:
    study.add_trial(
        create_trial(
            params=SPACE.params(index), distributions=SPACE.distributions(), values=list(values)
        )
    )


def warned(study: Study, trials: int, *values: float) -> list[str]:
    """What is warned of while trials of all configurations in turn report values."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def objective(trial: Trial) -> tuple[float, ...]:
            memory = MEMORY[SPACE.index(SPACE.suggest(trial))]
            return tuple(float(memory) if np.isnan(value) else value for value in values)

        study.optimize(objective, n_trials=trials)
    return [str(one.message) for one in caught]


OWN = float("nan")
"""The memory of the configuration."""


def test_a_study_of_error_and_memory_is_fine() -> None:
    assert warned(study_of(), 4, 0.5, OWN) == []
    assert warned(study_of(1), 4, 0.5) == []


def test_three_objectives_are_told_once() -> None:
    (message,) = warned(study_of(3), 4, 0.5, OWN, 7.0)
    assert message.startswith(
        "study 'task' has 3 objectives, of which PEPPPSampler heeds the first"
    )


def test_another_memory_is_told_once() -> None:
    study = study_of()
    (message,) = warned(study, 3, 0.5, 2.5)
    given = MEMORY[SPACE.index(study.trials[0].params)]
    assert message.startswith(
        f"trial 0 of study 'task' reports 2.5 as its second value, but the memory given for its "
        f"configuration is {given:g} ({given / 1e6:.0f} MB), which is what counts; give"
    )


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("second", "count"), [("seconds", 0), ("memory", 1), ("Memory (bytes)", 1)]
)
def test_a_second_objective_may_be_something_else(second: str, count: int) -> None:
    study = study_of()
    study.set_metric_names(["error", second])
    assert len(warned(study, 4, 0.5, 2.5)) == count


def test_memory_may_be_rounded() -> None:
    study = study_of()
    for index, memory in enumerate(MEMORY[:3]):
        add(study, index, 0.5, float(memory) * 1.009)
    assert warned(study, 1, 0.5, OWN) == []


@pytest.mark.parametrize(
    ("values", "end"),
    [
        ((2e6, 0.25), "; got 2000000.0, and 0.25 as the second: swap the two"),
        ((25.0, 0.25), "; got 25.0"),  # percent, and something else
        ((2e6, 3e6), "; got 2000000.0"),
        ((float("inf"), 0.25), "; got inf"),
    ],
)
def test_swapped_objectives(values: tuple[float, float], end: str) -> None:
    study = study_of()
    for index in range(2):
        add(study, index, *values)
    with pytest.warns(UserWarning, match="^ignored: trial 0 of study 'task'") as caught:
        predict(study, META, MEMORY)
    assert str(caught[0].message).endswith(f"{end} (1 more trials like it)")


def test_an_objective_that_takes_none_of_the_names(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("optuna_peppp.studies.checks"), "propagate", True)
    study = study_of()
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=3)
    (message,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert message.startswith("trial 0 of study 'task' took none of format_a, format_b, so that")


def test_other_names_that_vary_are_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("optuna_peppp.studies.checks"), "propagate", True)
    caplog.set_level(logging.INFO)
    study = study_of()

    def objective(trial: Trial, lowest: float) -> tuple[float, float]:
        index = META.space.index(META.space.suggest(trial))
        return trial.suggest_float("dropout", lowest, 0.5), float(MEMORY[index])

    study.optimize(lambda trial: objective(trial, 0.5), n_trials=1)
    assert not [
        one
        for one in caplog.records
        if "dropout" in one.getMessage() and "noise" in one.getMessage()
    ]
    study.optimize(lambda trial: objective(trial, 0.0), n_trials=2)
    told = [one.getMessage() for one in caplog.records if "noise" in one.getMessage()]
    assert told == [
        "study 'task' varies dropout, too, which PEPPPSampler does not know: to what it learns, "
        "their effect on the errors is noise"
    ]


@pytest.mark.parametrize("meta", [MATRIX, "plain3-cifar100", None, MetaModel])
def test_what_is_no_meta_model(meta: Any) -> None:
    kind = type(meta).__name__
    with pytest.raises(ValueError, match=rf"^meta must be a MetaModel, .* return; got {kind}$"):
        PEPPPSampler(meta, MEMORY)


@pytest.mark.parametrize("memory", ["2.8MB", {"a": 1.0}, [[1.0], [2.0, 3.0]], object()])
def test_what_is_no_memory(memory: Any) -> None:
    kind = type(memory).__name__
    with pytest.raises(ValueError, match=rf"^memory must be numbers, .* returns; got {kind}$"):
        PEPPPSampler(META, memory)
