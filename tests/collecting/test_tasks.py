from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from optuna_peppp.collecting.planning import Measurement, Plan, by_study
from optuna_peppp.collecting.tasks import load, start
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.lowprecision import Experiment
from optuna_peppp.studies.results import space_of
from optuna_peppp.studies.storage import open_storage

CHOICES = {"format_a": ["1-4-3", "1-5-3"], "format_b": ["1-6-7", "1-6-9"]}
EXPERIMENT = Experiment("npz:some/where/tiny.npz", "plain3", epochs=1)


def planned(
    experiment: Experiment = EXPERIMENT,
    space: ConfigurationSpace | None = None,
    image_size: int = 8,
) -> Plan:
    chosen = ConfigurationSpace(CHOICES) if space is None else space
    return by_study(
        Measurement(experiment, name, image_size, chosen, index, 1000 + index)
        for name in ("tiny", "other")
        for index in (0, 2)
    )


@pytest.fixture(params=["sqlite:///{}/corpus.db", "{}/corpus.journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param.format(tmp_path))


def test_every_task_is_a_study_that_explains_itself(storage: str) -> None:
    for _ in range(2):  # started, and taken up
        plan = planned()
        for task, (name, measurements) in zip(
            start(plan, storage, "me"), plan.items(), strict=True
        ):
            assert task.claims.name == name
            assert task.claims.worker == "me"
            assert task.planned is measurements
            study = optuna.load_study(storage=open_storage(storage), study_name=name)
            assert [direction.name for direction in study.directions] == ["MINIMIZE"] * 2
            assert study.metric_names == ["error", "memory"]
            assert study.user_attrs == {"peppp:settings": task.settings}
            assert task.settings == next(iter(measurements.values())).settings


def test_a_task_is_read_where_it_is(storage: str) -> None:
    with pytest.raises(ValueError, match="there is no storage"):
        load(planned(), storage)
    plan = planned()
    start({"plain3 other": plan["plain3 other"]}, storage, "me")
    (task,) = load(plan, storage)
    assert task.claims.name == "plain3 other"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (planned(replace(EXPERIMENT, epochs=6)), "with epochs 1, not 6; ask for that or choose"),
        (planned(replace(EXPERIMENT, rounding="nearest")), "with rounding stochastic, not nearest"),
        (planned(replace(EXPERIMENT, batch_size=16)), "with batch_size 32, not 16"),
        (planned(replace(EXPERIMENT, momentum=0.5)), "with momentum 0.9, not 0.5"),
        (planned(replace(EXPERIMENT, weight_decay=0.0)), "with weight_decay 0.0005, not 0.0"),
        (planned(replace(EXPERIMENT, learning_rate=0.1)), "with learning_rate 0.001, not 0.1"),
        (planned(image_size=16), "with image_size 8, not 16"),
        (
            planned(space=ConfigurationSpace({**CHOICES, "learning_rate": [0.1, 0.01]})),
            r"with learning_rate 0.001, not 0.1, 0.01; ask for that or choose another --storage$",
        ),
        (
            planned(space=ConfigurationSpace({**CHOICES, "format_a": ["1-4-3"]})),
            "with format_a 1-4-3, 1-5-3, not 1-4-3;",
        ),
    ],
)
@pytest.mark.parametrize("use", [start, lambda plan, storage, _: load(plan, storage)])
def test_other_settings_are_refused(
    tmp_path: Path, other: Plan, message: str, use: Callable[[Plan, str, str], object]
) -> None:
    storage = str(tmp_path / "corpus.journal")
    start(planned(), storage, "me")
    with pytest.raises(ValueError, match=rf"^study 'plain3 tiny' measures {message}"):
        use(other, storage, "me")
    start(planned(), storage, "me")


def test_seed_device_and_folder_may_differ(storage: str) -> None:
    start(planned(), storage, "me")
    elsewhere = replace(EXPERIMENT, data="npz:tiny.npz", seed=3, device="cpu:0")
    start(planned(elsewhere), storage, "you")


def test_foreign_studies_are_refused_and_kept(storage: str) -> None:
    opened = open_storage(storage, create=True)
    study = optuna.create_study(
        storage=opened, study_name="plain3 tiny", directions=["minimize"] * 2
    )
    study.add_trial(create_trial(values=[0.5, 1.0]))
    optuna.create_study(storage=opened, study_name="plain3 other")
    for name in ("plain3 tiny", "plain3 other"):
        with pytest.raises(ValueError, match=f"^study '{name}' was not made by `collect`; choose"):
            start({name: planned()[name]}, storage, "me")
    assert optuna.load_study(storage=opened, study_name="plain3 tiny").user_attrs == {}


def test_an_empty_study_is_taken(storage: str) -> None:
    # As another command leaves it that is just starting, or was killed while it did.
    optuna.create_study(
        storage=open_storage(storage, create=True),
        study_name="plain3 tiny",
        directions=["minimize"] * 2,
    )
    start(planned(), storage, "me")
    start(planned(), storage, "me")
    study = optuna.load_study(storage=open_storage(storage), study_name="plain3 tiny")
    assert study.user_attrs["peppp:settings"]["epochs"] == 1


def test_trials_tune_what_an_export_tunes(storage: str) -> None:
    (task, *_) = start(planned(), storage, "me")
    claim = task.claims.take(task.planned, {})
    assert claim is not None
    task.claims.complete(claim, (0.5, 1.0), {})
    study = optuna.load_study(storage=open_storage(storage), study_name="plain3 tiny")
    assert study.trials[0].state == TrialState.COMPLETE
    assert space_of([study]) == ConfigurationSpace(CHOICES)


@pytest.mark.parametrize(
    ("storage", "message"),
    [("corpus.csv", "storage must be a database URL"), ("nosuch://x", "cannot be opened")],
)
def test_storages_that_are_none(storage: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start(planned(), storage, "me")
