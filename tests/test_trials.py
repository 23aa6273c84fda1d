from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_peppp.space import ConfigurationSpace
from optuna_peppp.trials import Usage, check_minimized, configuration_of, error_of

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1", "1-4-3"], "learning_rate": [0.1, 0.01]})


def trial_of(index: int, state: TrialState, error: float = 0.5) -> FrozenTrial:
    return create_trial(
        state=state,
        params=SPACE.params(index),
        distributions=SPACE.distributions(),
        value=error if state == TrialState.COMPLETE else None,
    )


@pytest.mark.parametrize(
    ("params", "attributes", "expected"),
    [
        ({}, {}, None),
        (SPACE.params(3), {}, 3),
        ({"format_a": "1-4-1"}, {}, None),
        ({}, {"fixed_params": SPACE.params(4)}, 4),
        ({}, {"fixed_params": {**SPACE.params(4), "batch": 3}}, 4),
        ({}, {"fixed_params": {"learning_rate": 0.5, "format_a": "1-4-1"}}, None),
        ({}, {"peppp:configuration": SPACE.params(2)}, 2),
        # A trial of a smaller space holds nothing of this one.
        ({}, {"peppp:configuration": {"format_a": "1-4-1"}}, None),
        # What was suggested wins over what was enqueued, and that over what was claimed.
        ({"learning_rate": 0.01}, {"peppp:configuration": SPACE.params(2)}, 3),
        ({}, {"peppp:configuration": SPACE.params(0), "fixed_params": SPACE.params(5)}, 5),
    ],
)
def test_configuration_of(
    params: dict[str, Any], attributes: dict[str, Any], expected: int | None
) -> None:
    distributions = {name: SPACE.distributions()[name] for name in params}
    trial = create_trial(
        state=TrialState.RUNNING,
        params=params,
        distributions=distributions,
        system_attrs=attributes,
    )
    assert configuration_of(trial, SPACE) == expected


def test_usage_counts_what_each_state_means() -> None:
    trials = [
        trial_of(0, TrialState.COMPLETE),
        trial_of(0, TrialState.COMPLETE),
        trial_of(1, TrialState.PRUNED),
        trial_of(2, TrialState.RUNNING),
        trial_of(2, TrialState.WAITING),
        trial_of(3, TrialState.FAIL),
        trial_of(4, TrialState.COMPLETE),
        create_trial(state=TrialState.RUNNING),
    ]
    usage = Usage.of(trials, SPACE)
    assert usage.completed == ((0, trials[0]), (0, trials[1]), (4, trials[6]))
    np.testing.assert_array_equal(usage.spent, [2, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(usage.live, [0, 0, 2, 0, 0, 0])
    assert [usage.crowding(index) for index in (0, 2, 5)] == [(2, 0), (0, 2), (0, 0)]


def test_the_error_is_minimized() -> None:
    check_minimized(optuna.create_study(directions=["minimize", "maximize"]))
    with pytest.raises(ValueError, match="must minimize its first objective, the error"):
        check_minimized(optuna.create_study(direction="maximize"))


@pytest.mark.parametrize("error", [0.0, 0.25, 1.0])
def test_the_error_is_the_first_value(error: float) -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.add_trial(
        create_trial(
            params=SPACE.params(0), distributions=SPACE.distributions(), values=(error, 7.0)
        )
    )
    assert error_of(study.trials[0], study) == error


@pytest.mark.parametrize("error", [-0.01, 1.01, 54.0, float("inf")])
def test_an_error_that_is_no_ratio_is_refused(error: float) -> None:
    study = optuna.create_study(study_name="task")
    study.add_trials([trial_of(0, TrialState.COMPLETE), trial_of(1, TrialState.COMPLETE, error)])
    with pytest.raises(
        ValueError,
        match=rf"^trial 1 of study 'task' must report an error between 0 and 1, .*; got {error}$",
    ):
        error_of(study.trials[1], study)
