from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_peppp.space import ConfigurationSpace
from optuna_peppp.trials import Usage, check_minimized, configuration_of

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1", "1-4-3"], "learning_rate": [0.1, 0.01]})


def trial_of(index: int, state: TrialState) -> FrozenTrial:
    return create_trial(
        state=state,
        params=SPACE.params(index),
        distributions=SPACE.distributions(),
        value=0.5 if state == TrialState.COMPLETE else None,
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
        trial_of(3, TrialState.FAIL),
    ]
    usage = Usage.of(trials, SPACE)
    np.testing.assert_array_equal(usage.measured, [2, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(usage.spent, [2, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(usage.live, [0, 0, 1, 0, 0, 0])


def test_the_error_is_minimized() -> None:
    check_minimized(optuna.create_study(directions=["minimize", "maximize"]))
    with pytest.raises(ValueError, match="must minimize its first objective, the error"):
        check_minimized(optuna.create_study(direction="maximize"))
