from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from optuna_peppp.collecting import workers as module
from optuna_peppp.collecting.corpus_file import COLUMNS, export
from optuna_peppp.collecting.planning import Measurement, by_study
from optuna_peppp.collecting.progress import Progress
from optuna_peppp.collecting.tasks import load, start
from optuna_peppp.collecting.workers import collect
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.lowprecision import Experiment, TrainingResult
from optuna_peppp.lowprecision.training import devices
from optuna_peppp.lowprecision.training.devices import provenance
from optuna_peppp.studies.life import fail
from optuna_peppp.studies.patience import Pace, StorageError
from optuna_peppp.studies.storage import open_storage

SPACE = ConfigurationSpace(
    {
        "format_a": ["1-4-3", "1-5-3"],
        "format_b": ["1-6-7", "1-6-9"],
        "learning_rate": [0.1, 0.01],
    }
)
EXPERIMENT = Experiment("npz:tiny.npz", "plain3", epochs=1)


def planned(*seeds: int, name: str = "tiny") -> list[Measurement]:
    """All eight configurations of one data set."""
    return [
        Measurement(replace(EXPERIMENT, seed=seed), name, 8, SPACE, index, 1000 + index)
        for seed in seeds or (0,)
        for index in range(len(SPACE))
    ]


def error_of(measurement: Measurement) -> float:
    index, seed = measurement.key
    return (index + 1) / 30 + seed / 300


class Trainings:
    """Stands in for trainings: an error that tells the configuration, and what was asked for."""

    def __init__(self) -> None:
        self.made: list[tuple[int, int]] = []
        self.before: Callable[[], object] = lambda: None

    def measure(self, experiment: Experiment, params: dict[str, object]) -> TrainingResult:
        self.before()
        index = SPACE.index(params)
        self.made.append((index, experiment.seed))
        error = (index + 1) / 30 + experiment.seed / 300
        return TrainingResult(error, (error,), index == 3, 1)


@pytest.fixture(autouse=True)
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(Experiment, "measure", lambda self, params: made.measure(self, params))
    return made


@pytest.fixture(params=["sqlite:///{}/corpus.db", "{}/corpus.journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param.format(tmp_path))


def states(storage: str, name: str = "plain3 tiny") -> list[TrialState]:
    study = optuna.load_study(storage=open_storage(storage), study_name=name)
    return [trial.state for trial in study.trials]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return [*reader]


def test_a_corpus_is_collected_in_the_order_of_the_plan(
    storage: str, trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(4, 2)
    assert collect(plan, storage) == 16
    assert trainings.made == [m.key for m in plan]
    (task,) = load(by_study(plan), storage)
    held = task.claims.held()
    assert held.running == {}
    assert {key: trial.values for key, trial in held.complete.items()} == {
        m.key: [error_of(m), m.memory] for m in plan
    }
    for key, trial in held.complete.items():
        told = dict(trial.user_attrs)
        assert told.pop("seconds") >= 0
        assert len(told.pop("worker")) == 16
        assert told == {"seed": key[1], "diverged": key[0] == 3, **provenance("cpu")}
    shown = capsys.readouterr().err
    assert "16/16" in shown
    assert "1-5-3 / 1-6-9 / 0.01: error 0.2733" in shown


def test_only_what_is_missing_is_measured(storage: str, trainings: Trainings) -> None:
    plan = planned()
    assert collect(plan[2:4], storage) == 2
    assert collect(plan[:4], storage) == 2
    assert trainings.made == [(2, 0), (3, 0), (0, 0), (1, 0)]
    assert collect(plan[:4], storage) == 0
    # Another seed or data set is another measurement, in the same storage.
    assert collect([*planned(1)[:1], *planned(name="other")[:1]], storage) == 2
    assert len(states(storage)) == 5
    assert len(states(storage, "plain3 other")) == 1


def test_what_is_one_training_is_measured_once(
    tmp_path: Path, storage: str, trainings: Trainings
) -> None:
    # Of the eight, the last three are the training of the second.
    plan = [replace(m, same_as=1 if m.index > 4 else m.index) for m in [*planned(1), *planned(0)]]
    assert collect(plan[5:6], storage) == 1  # alone it is measured
    trainings.made.clear()
    assert collect(plan, storage) == 15
    assert trainings.made == [(index, seed) for seed in (1, 0) for index in range(5)]
    path = tmp_path / "corpus.csv"
    export(plan, storage, path)
    with path.open(newline="") as file:
        written = [*csv.DictReader(file)]
    by_key = {m.key: m for m in plan}
    for row in written:
        index = int(row["memory"]) - 1000
        key = index, int(row["seed"])
        copied = key[0] > 4 and key != (5, 1)
        assert row["same_as"] == ("1-4-3 / 1-6-7 / 0.01" if copied else "")
        made = by_key[1, key[1]] if copied else by_key[key]
        assert float(row["error"]) == pytest.approx(error_of(made), abs=1e-6)
    matrix = ErrorMatrix.read_csv(path)
    assert {*matrix.space.names} == {*SPACE.names}
    assert matrix.observed.all()


def test_what_was_low_in_the_end_is_told(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = TrainingResult(0.5, (0.5,), False, 1, ("0", "1"), 0.25)
    monkeypatch.setattr(Experiment, "measure", lambda *_: result)
    path = tmp_path / "corpus.csv"
    collect(planned()[:1], storage)
    export(planned()[:1], storage, path)
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["low_ratio"], row["promoted"]) == ("0.25", "2")
    assert "same_as" not in row


def test_a_copy_waits_for_who_measures(storage: str, trainings: Trainings) -> None:
    plan = [replace(m, same_as=0) for m in planned()[:2]]
    tasks = [start(by_study(plan), storage, worker)[0] for worker in ("one", "other")]
    one, other = (task.claims for task in tasks)
    copies = tasks[0].copies
    assert copies == {(1, 0): (0, 0)}
    claim = one.take(tasks[0].planned, {}, copies)
    assert claim is not None
    assert (claim.key, claim.made) == ((0, 0), None)
    assert other.take(tasks[1].planned, {}, copies) is None
    one.complete(claim, (0.5, 1.0), {})
    second = other.take(tasks[1].planned, {}, copies)
    assert second is not None
    assert second.key == (1, 0)
    assert second.made is not None
    assert second.made.values == [0.5, 1.0]


def test_an_export_is_what_was_measured(tmp_path: Path, storage: str) -> None:
    plan = [*planned(1, 0), *planned(name="other")]
    path = tmp_path / "corpus.csv"
    collect(plan, storage)
    assert export(plan, storage, path) == 24
    content = path.read_bytes()
    assert content.startswith(",".join(COLUMNS).encode() + b"\n")
    assert b"\r" not in content
    written = rows(path)
    ordered = sorted(plan, key=lambda m: (m.task != "tiny", m.key))
    assert [float(row.pop("seconds")) >= 0 for row in written] == [True] * 24
    assert written == [
        {
            "task": m.task,
            "model": "plain3",
            **{name: str(value) for name, value in m.params.items()},
            "error": f"{error_of(m):.6g}",
            "memory": str(m.memory),
            "seed": str(m.experiment.seed),
            "epochs": "1",
            "optimizer": "sgd",
            "schedule": "constant",
            "rounding": "stochastic",
            "sites": "modules",
            "batch_size": "32",
            "image_size": "8",
            "width": "",
            "depth": "",
            "momentum": "0.9",
            "weight_decay": "0.0005",
            "diverged": str(int(m.index == 3)),
            **provenance("cpu"),
        }
        for m in ordered
    ]
    matrix = ErrorMatrix.read_csv(path, SPACE)
    assert matrix.tasks == ("tiny", "other")
    assert matrix.models == ("plain3", "plain3")
    assert matrix.memory.tolist() == [[1000 + index for index in range(8)]] * 2
    expected = [(index + 1) / 30 for index in range(8)]
    assert matrix.errors[1].tolist() == pytest.approx(expected, abs=1e-6)
    assert matrix.errors[0].tolist() == pytest.approx([e + 1 / 600 for e in expected], abs=1e-6)


def test_an_export_of_a_part(tmp_path: Path, storage: str, trainings: Trainings) -> None:
    path = tmp_path / "corpus.csv"
    with pytest.raises(ValueError, match="there is no storage"):
        export(planned(), storage, path)
    start(by_study(planned()), storage, "me")
    path.write_text("what was there")
    assert export(planned(), storage, path) == 0
    assert path.read_text() == "what was there"
    # What the storage holds counts, not what the plan names.
    collect(planned(5)[:3], storage)
    assert export([*planned()[7:], *planned(name="other")], storage, path) == 3
    assert [row["seed"] for row in rows(path)] == ["5"] * 3
    assert trainings.made == [(0, 5), (1, 5), (2, 5)]


@pytest.mark.parametrize("problem", [KeyboardInterrupt, MemoryError])
def test_what_ends_a_run_leaves_nothing_running(
    storage: str, trainings: Trainings, problem: type[BaseException]
) -> None:
    def fail_third() -> None:
        assert states(storage) == [TrialState.COMPLETE] * len(trainings.made) + [TrialState.RUNNING]
        if len(trainings.made) == 2:
            raise problem

    trainings.before = fail_third
    with pytest.raises(problem):
        collect(planned(), storage)
    assert states(storage) == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
    trainings.before = lambda: None
    assert collect(planned(), storage) == 6
    assert trainings.made == [m.key for m in planned()]


def test_what_another_worker_holds_is_waited_for(
    storage: str,
    trainings: Trainings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (other,) = start(by_study(planned()), storage, "other")
    claim = other.claims.take(other.planned, {})
    assert claim is not None
    shown = ""

    def complete_when_waited_for() -> None:
        nonlocal shown
        deadline = time.monotonic() + 120
        while "waiting for 1 of other workers" not in shown and time.monotonic() < deadline:
            time.sleep(0.05)
            shown += capsys.readouterr().err
        other.claims.complete(claim, (0.5, 1.0), {"diverged": False, "seconds": 1.0})

    thread = threading.Thread(target=complete_when_waited_for)
    thread.start()
    assert collect(planned(), storage, pace=Pace(poll=0.05)) == 7
    thread.join()
    assert trainings.made == [m.key for m in planned()[1:]]
    assert "waiting for 1 of other workers" in shown
    assert "8/8" in capsys.readouterr().err


def test_the_dead_are_succeeded(storage: str, trainings: Trainings) -> None:
    (dead,) = start(by_study(planned()), storage, "dead")
    dead.claims.take(dead.planned, {})
    assert collect(planned(), storage, pace=Pace(poll=0.05, dead_after=0.5)) == 8
    assert trainings.made[0] == (1, 0)
    assert sorted(trainings.made) == [m.key for m in planned()]


def test_a_result_that_comes_too_late_is_dropped(storage: str, trainings: Trainings) -> None:
    def succeed_once() -> None:
        trainings.before = lambda: None
        (other,) = start(by_study(planned()), storage, "other")
        (running,) = other.claims.held().running.values()
        fail(open_storage(storage), running._trial_id)  # as who takes us for dead
        claim = other.claims.take(other.planned, {})
        assert claim is not None
        other.claims.complete(claim, (0.5, 1.0), {"diverged": False, "seconds": 1.0})

    trainings.before = succeed_once
    assert collect(planned(), storage) == 7
    (task,) = load(by_study(planned()), storage)
    assert len(task.claims.held().complete) == 8
    assert task.claims.held().complete[0, 0].values == [0.5, 1.0]
    assert states(storage) == [TrialState.FAIL] + [TrialState.COMPLETE] * 8


def test_a_storage_that_fails_is_one_sentence_and_loses_nothing(
    tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = str(tmp_path / "corpus.journal")

    def broken(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        original = JournalStorage.set_trial_state_values
        patch.setattr(
            JournalStorage,
            "set_trial_state_values",
            lambda *arguments: (broken if len(trainings.made) == 3 else original)(*arguments),
        )
        with pytest.raises(
            StorageError, match=rf"^storage {storage} failed \(.*No space left.*\); what was"
        ):
            collect(planned(), storage, pace=Pace(patience=0))
    assert states(storage) == [TrialState.COMPLETE] * 2 + [TrialState.RUNNING]
    assert collect(planned(), storage, pace=Pace(poll=0.05, dead_after=0.2)) == 6


def test_bad_arguments_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must differ; plain3 tiny"):
        collect([*planned(), *planned()[:1]], str(tmp_path / "corpus.journal"))
    with pytest.raises(ValueError, match="jobs must be at least 1; got 0"):
        collect(planned(), str(tmp_path / "corpus.journal"), jobs=0)
    assert not list(tmp_path.iterdir())


def test_a_complete_plan_starts_no_process(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(planned(), storage)
    monkeypatch.setattr(module, "worker_pool", None)
    assert collect(planned(), storage, jobs=4) == 0


def test_looking_takes_little_time(storage: str) -> None:
    plan = by_study(planned())
    tasks = start(plan, storage, "me")
    with Progress(tasks, "me") as progress:
        collect(planned(), storage)
        progress._due = float("inf")
        progress.look()
        assert progress.left == 8
    assert progress.left == 0


def test_one_process_trains_with_the_threads_that_are_asked_for(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []
    monkeypatch.setattr(devices, "use_threads", asked.append)
    collect(planned(), storage, threads=3)
    assert asked == [3]
