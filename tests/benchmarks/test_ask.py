"""Of the scripts that time asking and completing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler

from benchmarks.harness.tables import Row, read
from benchmarks.speed import ask, completion, fit, large, new_task
from optuna_peppp import PEPPPSampler

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
def task() -> new_task.NewTask:
    return new_task.NewTask.of(1)


def random_samplers() -> dict[str, BaseSampler]:
    """Under everybody's name; all ask for the same."""
    return {name: RandomSampler(seed=0) for name in ask.SAMPLERS}


def rows_of(milliseconds: float = 1.0) -> list[Row]:
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
def test_a_task_in_each_space(learning_rates: int) -> None:
    task = new_task.NewTask.of(learning_rates)
    assert len(task.meta.space) == 99 * learning_rates
    assert task.errors.shape == (99 * learning_rates,)
    assert ((task.errors > 0) & (task.errors < 1)).all()
    assert np.corrcoef(task.memory, task.errors)[0, 1] < -0.1
    by_format = task.memory.reshape(99, learning_rates)
    assert (by_format == by_format[:, :1]).all()
    # Format A has 5 bits at least, Format B 14.
    assert task.memory.min() == pytest.approx(3e6 * 5 + 1e6 * 14)


def test_fewer_trials_are_the_first_of_more(task: new_task.NewTask) -> None:
    few, many = task.trials(10), task.trials(30)
    assert [trial.params for trial in few] == [trial.params for trial in many[:10]]
    assert len({task.meta.space.index(trial.params) for trial in many}) == 30


def test_free_configurations_remain_after_100_trials_of_99(task: new_task.NewTask) -> None:
    trials = task.trials(100)
    measured = {task.meta.space.index(trial.params) for trial in trials}
    assert (len(trials), len(measured)) == (100, 89)


def test_everybody_takes_part(task: new_task.NewTask) -> None:
    samplers = task.samplers()
    assert list(samplers) == list(ask.SAMPLERS)
    ours = [name for name, sampler in samplers.items() if isinstance(sampler, PEPPPSampler)]
    assert ours == list(ask.OURS)


def test_every_ask_finds_the_same_study_in_both_storages(
    task: new_task.NewTask, tmp_path: Path
) -> None:
    trials, sampler = task.trials(3), task.samplers()["bayesian"]
    with ask.opened(tmp_path / "study.db") as storage:
        optuna.create_study(directions=ask.DIRECTIONS, storage=storage).add_trials(trials)
    asked = set()
    for fresh in (
        partial(ask.in_memory, trials),
        partial(ask.in_sqlite, tmp_path / "study.db"),
    ):
        for _ in range(2):
            with fresh(sampler) as study:
                assert [trial.values for trial in study.trials] == [t.values for t in trials]
                assert [trial.params for trial in study.trials] == [t.params for t in trials]
            seconds, index = ask.ask(fresh, sampler, task.meta.space)
            assert seconds > 0
            asked.add(index)
    assert len(asked) == 1
    assert asked.isdisjoint(task.meta.space.index(trial.params) for trial in trials)


def test_what_is_not_in_the_space_is_refused(task: new_task.NewTask) -> None:
    with pytest.raises(ValueError, match="1-9-9"):
        ask.ask(partial(ask.in_memory, []), Outside(), task.meta.space)


def test_of_ours_what_depends_on_the_storage_is_refused() -> None:
    same = dict.fromkeys(ask.SAMPLERS, 1)
    ask.check({"memory": same, "sqlite": {**same, "gp": 2}})
    with pytest.raises(RuntimeError, match=r"qr-mf .*'memory': 1, 'sqlite': 2"):
        ask.check({"memory": same, "sqlite": {**same, "qr-mf": 2}})


def test_a_row_for_every_storage_and_sampler(
    task: new_task.NewTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_task.NewTask, "samplers", lambda _: random_samplers())
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
        assert float(row["milliseconds"]) > 0
        if row["sampler"] == new_task.TPE:
            assert row["ratio_to_tpe"] == 1


def test_the_table_goes_by_storage_and_size() -> None:
    cell = " | ".join
    assert ask.table(rows_of(0.1)).splitlines()[2:] == [
        f"| in memory | 99 | 30 | {cell(['9.90 (0.50)'] * 6)} |",
        f"| in memory | 1,089 | 30 | {cell(['109 (0.50)'] * 6)} |",
        f"| SQLite | 99 | 30 | {cell(['9.90 (0.50)'] * 6)} |",
        f"| SQLite | 1,089 | 30 | {cell(['109 (0.50)'] * 6)} |",
    ]


@pytest.mark.slow
def test_asking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask.main(["--quick", "--output", str(tmp_path)])
    rows = read(tmp_path / "ask.csv")
    assert [(row["storage"], row["sampler"]) for row in rows] == [
        (storage, name) for storage in ask.PLACES for name in ask.SAMPLERS
    ]
    assert list(rows[0]) == COLUMNS
    settings = json.loads((tmp_path / "ask.json").read_text())
    assert (settings["threads"], settings["seed"]) == (1, 0)
    assert settings["sqlite_commit_milliseconds"] > 0
    assert (tmp_path / "ask.png").read_bytes().startswith(b"\x89PNG")
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2 + 2


def test_a_case_of_completion_has_one_answer() -> None:
    rows = completion.compare(completion.Case(30, 40, 1))
    assert [row["method"] for row in rows] == ["soft_impute", "dense SVD"]
    assert {row["compared_with"] for row in rows} == {"rival"}
    assert float(rows[0]["largest_difference"]) < 1e-5
    assert rows[0]["objective"] == pytest.approx(rows[1]["objective"], rel=1e-6)


@pytest.mark.slow
def test_completing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = (completion.Case(30, 40, 1), completion.Case(40, 60, 1, rival_iterations=5))
    monkeypatch.setattr(completion, "QUICK", cases)
    completion.main(["--quick", "--output", str(tmp_path)])
    *_, ours, theirs = read(tmp_path / "completion.csv")
    assert (ours["compared_with"], theirs["iterations"]) == ("rival started from ours", "5")
    assert float(theirs["projected_seconds"]) > float(theirs["seconds"])
    assert float(ours["peak_mb"]) > 10
    assert (tmp_path / "completion.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_large_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large.main(["--quick", "--output", str(tmp_path)])
    rows = read(tmp_path / "large.csv")
    assert [(row["sampler"], row["configurations"], row["trials"]) for row in rows] == [
        ("bayesian", "99", "100"),
        (new_task.TPE, "99", "100"),
        ("cold-start", "10000", "30"),
        (new_task.TPE, "10000", "30"),
        ("prediction", "10000", "30"),
    ]
    assert all(float(row["milliseconds"]) > 0 for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)


@pytest.mark.slow
def test_large_fits(tmp_path: Path) -> None:
    fit.main(["--quick", "--output", str(tmp_path)])
    rows = read(tmp_path / "fit.csv")
    assert [(row["step"], row["tasks"]) for row in rows] == [
        ("fit", "20"),
        ("fit", "87"),
        ("read studies", "20"),
        ("fit studies", "20"),
    ]
    assert all(float(row["processor_seconds"]) > 0 for row in rows)


def test_errors_to_fit_are_observed_somewhere() -> None:
    observed = ~np.isnan(fit.errors_of(30, 50))
    assert observed.any(axis=0).all()
    assert observed.any(axis=1).all()
    assert 0.1 < observed.mean() < 0.2
