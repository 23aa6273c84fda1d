from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.studies.life import fail
from optuna_peppp.studies.patience import Pace
from optuna_peppp.studies.storage import open_storage
from optuna_peppp.studies.trials import identifier, storage_of
from optuna_peppp.studies.turns import Turns

SPACE = ConfigurationSpace({"format_a": ["1-4-3", "1-5-3"], "format_b": ["1-6-7", "1-6-9"]})

Join = Callable[[], tuple[optuna.Study, Turns]]


@pytest.fixture(params=["sqlite:///{}/tune.db", "{}/tune.journal"])
def join(request: pytest.FixtureRequest, tmp_path: Path) -> Join:
    """Lets a worker with a connection of its own join in the work on one study."""
    path = request.param.format(tmp_path)
    optuna.create_study(
        study_name="tune",
        storage=open_storage(path, create=True),
        directions=["minimize", "minimize"],
    )

    def worker() -> tuple[optuna.Study, Turns]:
        pace = Pace(poll=0.0)
        study = optuna.load_study(study_name="tune", storage=open_storage(path, pace=pace))
        return study, Turns(study, SPACE, np.ones(len(SPACE), dtype=np.bool_), 2, pace)

    return worker


def unexpected(number: int) -> None:
    pytest.fail(f"waits for {number}")


def test_turns_add_up_to_what_is_wanted(join: Join) -> None:
    (_, one), (_, other) = join(), join()
    for turns, missing in ((one, 2), (other, 1)):
        assert turns.missing() == missing
        trial = turns.next(unexpected)
        assert trial is not None
        with turns.taken(trial):
            assert turns.suggest(trial) in [SPACE.params(index) for index in range(len(SPACE))]
            assert turns.complete(trial, [0.5, 1.0], {"diverged": False})
    for turns in (one, other):
        assert turns.missing() <= 0
        assert turns.next(unexpected) is None


def test_a_trial_that_another_failed_before_it_took_its_names(join: Join) -> None:
    """As of a worker that stood still between asking and claiming."""
    (study, turns), (others, _) = join(), join()
    trial = turns.next(unexpected)
    assert trial is not None
    with turns.taken(trial):
        fail(storage_of(others), identifier(trial))
        assert turns.suggest(trial) is None
    assert [one.state for one in study.get_trials()] == [TrialState.FAIL]
    assert turns.missing() == 2
    again = turns.next(unexpected)
    assert again is not None
    assert again.number == 1


def test_a_trial_that_another_failed_between_its_names(join: Join) -> None:
    (_, turns), (others, _) = join(), join()
    trial = turns.next(unexpected)
    assert trial is not None
    trial.suggest_categorical("format_a", SPACE.choices["format_a"])
    fail(storage_of(others), identifier(trial))
    assert turns.suggest(trial) is None


def test_what_interrupts_frees_the_trial(join: Join) -> None:
    study, turns = join()
    trial = turns.next(unexpected)
    assert trial is not None
    with pytest.raises(KeyboardInterrupt), turns.taken(trial):
        raise KeyboardInterrupt
    (interrupted,) = study.get_trials()
    assert interrupted.state == TrialState.FAIL
    assert interrupted.system_attrs["peppp:interrupted"] is True
