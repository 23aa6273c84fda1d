from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.measurements import ROUNDING, as_error
from optuna_peppp.studies.checks import check_minimized
from optuna_peppp.studies.trials import (
    INTERRUPTED,
    Usage,
    agreeing,
    checked_classes,
    configuration_of,
)

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1", "1-4-3"], "learning_rate": [0.1, 0.01]})


def trial_of(
    index: int,
    state: TrialState,
    error: float = 0.5,
    taken: Sequence[str] = SPACE.names,
    **further: Any,
) -> FrozenTrial:
    return create_trial(
        state=state,
        params={name: SPACE.params(index)[name] for name in taken},
        distributions={name: SPACE.distributions()[name] for name in taken},
        value=error if state == TrialState.COMPLETE else None,
        **further,
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


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
@pytest.mark.parametrize("attribute", ["fixed_params", "peppp:configuration"])
@pytest.mark.parametrize("taken", [[], ["format_a"], ["learning_rate"]])
def test_a_finished_trial_holds_what_it_took_whatever_it_claimed(
    state: TrialState, attribute: str, taken: list[str]
) -> None:
    trial = trial_of(3, state, taken=taken, system_attrs={attribute: SPACE.params(3)})
    assert configuration_of(trial, SPACE) is None
    usage = Usage.of([trial], SPACE)
    assert not usage.measured
    assert not usage.finished.any()
    assert not usage.live.any()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SPACE.params(3), [3]),
        ({"format_a": "1-4-1"}, [2, 3]),
        ({"learning_rate": 0.01, "width": 4}, [1, 3, 5]),
        ({}, []),
        ({"width": 4}, []),
        ({"format_a": "1-8-23"}, []),
        ({"format_a": "1-8-23", "learning_rate": 0.01}, []),
    ],
)
def test_agreeing(params: dict[str, Any], expected: list[int]) -> None:
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution((value,)) for name, value in params.items()
    }
    trial = create_trial(params=params, distributions=distributions, value=0.5)
    assert agreeing(trial, SPACE).tolist() == expected


def test_usage_counts_what_each_state_means() -> None:
    trials = [
        trial_of(0, TrialState.COMPLETE, 0.75),
        trial_of(0, TrialState.COMPLETE),
        trial_of(1, TrialState.PRUNED),
        trial_of(2, TrialState.RUNNING),
        trial_of(2, TrialState.WAITING),
        trial_of(3, TrialState.FAIL),
        trial_of(4, TrialState.COMPLETE),
        create_trial(state=TrialState.RUNNING),
        create_trial(state=TrialState.FAIL),
        trial_of(5, TrialState.COMPLETE, 54.0),
        trial_of(4, TrialState.COMPLETE, taken=["format_a"]),
        trial_of(3, TrialState.FAIL, taken=["learning_rate"]),
        trial_of(3, TrialState.PRUNED, taken=["learning_rate"]),
    ]
    usage = Usage.of(trials, SPACE)
    assert usage.measured == (trials[0], trials[1], trials[6])
    np.testing.assert_array_equal(usage.indices, [0, 0, 4])
    np.testing.assert_array_equal(usage.errors, [0.75, 0.5, 0.5])
    np.testing.assert_array_equal(usage.finished, [2, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(usage.failures, [0, 2, 0, 3, 1, 4])
    np.testing.assert_array_equal(usage.spent, [2, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(usage.live, [0, 0, 2, 0, 0, 0])
    np.testing.assert_array_equal(usage.broken, [3])
    assert usage.misfits == (trials[10],)
    assert usage.no_errors == (trials[9],)
    assert [usage.crowding(index) for index in (0, 2, 5)] == [(2, 0, 0), (0, 2, 0), (1, 0, 4)]


def test_a_class_is_used_as_one_configuration() -> None:
    trials = [
        trial_of(0, TrialState.COMPLETE, 0.75),
        trial_of(3, TrialState.COMPLETE, 0.25),
        trial_of(4, TrialState.RUNNING),
        trial_of(1, TrialState.FAIL),
    ]
    # The first, the second and the fourth are one training; so are the third and the fifth.
    usage = Usage.of(trials, SPACE).shared(np.array([0, 0, 2, 0, 2, 5]))
    assert usage.measured == (trials[0],) * 3 + (trials[1],) * 3
    np.testing.assert_array_equal(usage.indices, [0, 1, 3, 0, 1, 3])
    np.testing.assert_array_equal(usage.errors, [0.75] * 3 + [0.25] * 3)
    np.testing.assert_array_equal(usage.finished, [2, 2, 0, 2, 0, 0])
    np.testing.assert_array_equal(usage.live, [0, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(usage.failures, [1, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(usage.broken, [0, 1, 3])


def test_classes_are_numbered_by_their_first() -> None:
    assert checked_classes([7, -3, 7, 9, -3, 1], SPACE).tolist() == [0, 1, 0, 3, 1, 5]


@pytest.mark.parametrize("classes", [[0, 1], [[0] * 6], [0.0] * 6, ["a"] * 6, 3])
def test_what_is_no_class_is_refused(classes: Any) -> None:
    with pytest.raises(ValueError, match="classes must be 6 integers, one for every configuration"):
        checked_classes(classes, SPACE)


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        *[(error, error) for error in (0.0, 0.25, 1.0)],
        *[(-2.2e-16, 0.0), (-ROUNDING, 0.0), (1 + 1e-10, 1.0), (1 + ROUNDING, 1.0)],
        *[(value, None) for value in (-0.01, -2e-6, 1.01, 1 + 2e-6, 54.0)],
        *[(value, None) for value in (float("inf"), -float("inf"))],
    ],
)
def test_the_error_is_the_first_value_without_rounding_noise(
    objectives: int, value: float, error: float | None
) -> None:
    trial = create_trial(
        params=SPACE.params(2),
        distributions=SPACE.distributions(),
        values=[value, 7.0, float("inf")][:objectives],
    )
    usage = Usage.of([trial], SPACE)
    assert usage.errors.tolist() == ([] if error is None else [error])
    assert usage.finished[2] == (error is not None)
    assert usage.failures[2] == (error is None)


def test_what_was_interrupted_had_never_begun() -> None:
    stopped = trial_of(2, TrialState.FAIL, system_attrs={INTERRUPTED: True})
    usage = Usage.of([stopped, trial_of(3, TrialState.FAIL)], SPACE)
    assert usage.failures.tolist() == [0, 0, 0, 1, 0, 0]
    assert usage.broken.tolist() == [3]


def test_the_error_is_minimized() -> None:
    check_minimized(optuna.create_study(directions=["minimize", "maximize"]))
    with pytest.raises(ValueError, match="must minimize its first objective, the error"):
        check_minimized(optuna.create_study(direction="maximize"))


def one_by_one(trials: Sequence[FrozenTrial]) -> dict[str, list[Any]]:
    """What :class:`Usage` says, trial after trial."""
    found: dict[str, list[Any]] = {name: [0] * len(SPACE) for name in COUNTS}
    found |= {name: [] for name in ("measured", "indices", "errors", "broken", *REFUSED)}
    for trial in trials:
        index, ended = configuration_of(trial, SPACE), trial.state.is_finished()
        if not ended:
            if index is not None:
                found["live"][index] += 1
            continue
        if INTERRUPTED in trial.system_attrs:
            continue
        complete = trial.state == TrialState.COMPLETE
        error = as_error(trial.values[0]) if complete else None
        if index is None:
            for each in agreeing(trial, SPACE).tolist():
                found["failures"][each] += 1
            found["misfits"] += [trial] if complete else []
        elif trial.state == TrialState.FAIL:
            found["failures"][index] += 1
            found["broken"].append(index)
        elif complete and error is None:
            found["failures"][index] += 1
            found["no_errors"].append(trial)
        else:
            found["finished"][index] += 1
            if complete:
                found["measured"].append(trial)
                found["indices"].append(index)
                found["errors"].append(error)
    found["broken"] = sorted(set(found["broken"]))
    return found


COUNTS = ("finished", "failures", "live")
REFUSED = ("misfits", "no_errors")


@pytest.mark.parametrize("seed", range(5))
def test_trials_are_read_together_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = list(TrialState)
    trials = [
        trial_of(
            int(rng.integers(len(SPACE))),
            states[rng.integers(len(states))],
            float(rng.choice([0.0, 0.3, 1 + ROUNDING / 2, 1.5, -0.2, np.inf])),
            SPACE.names[: rng.choice([0, 1, 2, 2, 2])],
            system_attrs={INTERRUPTED: True} if rng.random() < 0.2 else {},
        )
        for _ in range(60)
    ]
    expected = one_by_one(trials)
    half = Usage.of(trials[:30], SPACE).joined(Usage.of(trials[30:], SPACE))
    for usage in (Usage.of(trials, SPACE), half):
        for name, values in expected.items():
            assert list(getattr(usage, name)) == values, name
