from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from optuna.samplers import BaseSampler, RandomSampler

from optuna_peppp import PEPPPSampler

pytest.importorskip("matplotlib", reason="needs the extra benchmarks")

SPEED = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"
COLUMNS = [
    "sampler",
    "configurations",
    "trials",
    "storage",
    "milliseconds",
    "repeats",
    "ratio_to_tpe",
]


@pytest.fixture(scope="module")
def ask(speed: Callable[[str], ModuleType]) -> ModuleType:
    return speed("ask")


@pytest.fixture(scope="module")
def task(ask: ModuleType) -> Any:
    return ask.NewTask.of(1)


def random_samplers(ask: ModuleType) -> dict[str, BaseSampler]:
    """Under everybody's name; all ask for the same."""
    return {name: RandomSampler(seed=0) for name in ask.SAMPLERS}


def rows_of(ask: ModuleType, milliseconds: float = 1.0) -> list[dict[str, Any]]:
    return [
        {
            "sampler": name,
            "configurations": configurations,
            "trials": 30,
            "storage": storage,
            "milliseconds": milliseconds * configurations,
            "repeats": 3,
            "ratio_to_tpe": 0.5,
        }
        for configurations in (1089, 99)
        for storage in ask.PLACES
        for name in ask.SAMPLERS
    ]


class Outside(RandomSampler):
    """Asks for what is not among the choices."""

    def sample_independent(self, *_: object) -> str:
        return "1-9-9"


@pytest.mark.parametrize("learning_rates", [1, 3, 11])
def test_a_task_in_each_space(ask: ModuleType, learning_rates: int) -> None:
    task = ask.NewTask.of(learning_rates)
    assert len(task.space) == 99 * learning_rates
    assert task.errors.shape == (99 * learning_rates,)
    assert ((task.errors > 0) & (task.errors < 1)).all()
    assert np.corrcoef(task.memory, task.errors)[0, 1] < -0.1
    by_format = task.memory.reshape(99, learning_rates)
    assert (by_format == by_format[:, :1]).all()
    # Format A has 5 bits at least, Format B 14.
    assert task.memory.min() == pytest.approx(3e6 * 5 + 1e6 * 14)


def test_fewer_trials_are_the_first_of_more(task: Any) -> None:
    few, many = task.trials(10), task.trials(30)
    assert [trial.params for trial in few] == [trial.params for trial in many[:10]]
    assert len({task.space.index(trial.params) for trial in many}) == 30


def test_free_configurations_remain_after_100_trials_of_99(task: Any) -> None:
    trials = task.trials(100)
    measured = {task.space.index(trial.params) for trial in trials}
    assert (len(trials), len(measured)) == (100, 89)


def test_trials_report_error_and_memory_of_their_configuration(task: Any) -> None:
    for trial in task.trials(3):
        index = task.space.index(trial.params)
        assert trial.values == [task.errors[index], task.memory[index]]


def test_everybody_takes_part(ask: ModuleType, task: Any) -> None:
    samplers = task.samplers()
    assert list(samplers) == list(ask.SAMPLERS)
    ours = [name for name, sampler in samplers.items() if isinstance(sampler, PEPPPSampler)]
    assert ours == list(ask.OURS)


def test_every_ask_finds_the_same_study_in_both_storages(
    ask: ModuleType, task: Any, tmp_path: Path
) -> None:
    trials, sampler = task.trials(3), task.samplers()["bayesian"]
    ask.write(trials, tmp_path / "study.db")
    asked = set()
    for fresh in (
        partial(ask.in_memory, trials),
        partial(ask.in_sqlite, tmp_path / "study.db"),
    ):
        for _ in range(2):
            with fresh(sampler) as study:
                assert [trial.values for trial in study.trials] == [t.values for t in trials]
                assert [trial.params for trial in study.trials] == [t.params for t in trials]
            seconds, index = ask.ask(fresh, sampler, task.space)
            assert seconds > 0
            asked.add(index)
    assert len(asked) == 1
    assert asked.isdisjoint(task.space.index(trial.params) for trial in trials)


def test_what_is_not_in_the_space_is_refused(ask: ModuleType, task: Any) -> None:
    with pytest.raises(ValueError, match="1-9-9"):
        ask.ask(partial(ask.in_memory, []), Outside(), task.space)


def test_of_ours_what_depends_on_the_storage_is_refused(ask: ModuleType) -> None:
    same = dict.fromkeys(ask.SAMPLERS, 1)
    ask.check({"memory": same, "sqlite": {**same, "gp": 2}})
    with pytest.raises(RuntimeError, match=r"qr-mf .*'memory': 1, 'sqlite': 2"):
        ask.check({"memory": same, "sqlite": {**same, "qr-mf": 2}})


@pytest.mark.parametrize(("turns", "limit", "taken"), [(5, 1e9, 5), (5, 0.0, 3), (2, 0.0, 2)])
def test_turns_end_with_the_time_but_not_before_three(
    ask: ModuleType,
    task: Any,
    monkeypatch: pytest.MonkeyPatch,
    turns: int,
    limit: float,
    taken: int,
) -> None:
    monkeypatch.setattr(ask, "TURNS", {"memory": turns})
    fresh = partial(ask.in_memory, task.trials(1))
    times = ask.take_turns("memory", fresh, random_samplers(ask), task.space, limit)
    assert {name: len(own) for name, own in times.items()} == dict.fromkeys(ask.SAMPLERS, taken)


def test_the_ratio_is_that_within_turns(ask: ModuleType) -> None:
    # A machine that is ten times slower in the last turns slows both.
    assert ask.medians([0.001, 0.020, 0.030], [0.002, 0.040, 0.030]) == {
        "milliseconds": pytest.approx(20.0),
        "repeats": 3,
        "ratio_to_tpe": pytest.approx(0.5),
    }


def test_a_row_for_every_storage_and_sampler(
    ask: ModuleType, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask.NewTask, "samplers", lambda _: random_samplers(ask))
    monkeypatch.setattr(ask, "TURNS", {"memory": 2, "sqlite": 1})
    rows = ask.measure(task, 2, 0.0)
    assert [(row["storage"], row["sampler"], row["repeats"]) for row in rows] == [
        (storage, name, repeats)
        for storage, repeats in (("memory", 2), ("sqlite", 1))
        for name in ask.SAMPLERS
    ]
    for row in rows:
        assert list(row) == COLUMNS
        assert (row["configurations"], row["trials"]) == (99, 2)
        assert row["milliseconds"] > 0
        if row["sampler"] == ask.TPE:
            assert row["ratio_to_tpe"] == 1


def test_the_table_goes_by_storage_and_size(ask: ModuleType) -> None:
    cell = " | ".join
    assert ask.table(rows_of(ask, 0.1)).splitlines()[2:] == [
        f"| in memory | 99 | 30 | {cell(['9.90 (0.50)'] * 6)} |",
        f"| in memory | 1,089 | 30 | {cell(['109 (0.50)'] * 6)} |",
        f"| SQLite | 99 | 30 | {cell(['9.90 (0.50)'] * 6)} |",
        f"| SQLite | 1,089 | 30 | {cell(['109 (0.50)'] * 6)} |",
    ]


def test_the_table_has_a_column_for_everybody(ask: ModuleType) -> None:
    header, line, *_ = ask.table(rows_of(ask)).splitlines()
    labels = [label for label, *_ in ask.SAMPLERS.values()]
    assert header == f"| {' | '.join(['storage', 'configurations', 'trials', *labels])} |"
    assert line == "| " + " | ".join(["---"] * 9) + " |"


def test_a_picture(ask: ModuleType, tmp_path: Path) -> None:
    ask.draw(rows_of(ask), tmp_path / "ask.png")
    assert (tmp_path / "ask.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_script(ask: ModuleType, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, str(SPEED / "ask.py"), "--quick", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    with (tmp_path / "ask.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["storage"], row["sampler"]) for row in rows] == [
        (storage, name) for storage in ask.PLACES for name in ask.SAMPLERS
    ]
    assert list(rows[0]) == COLUMNS
    settings = json.loads((tmp_path / "ask.json").read_text())
    assert settings["threads"] == 1
    assert settings["sqlite_commit_milliseconds"] > 0
    assert (tmp_path / "ask.png").stat().st_size > 0
    assert len(finished.stdout.splitlines()) == 1 + 2 + 2
