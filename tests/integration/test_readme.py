"""The README does what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from optuna_peppp.cli import app
from optuna_peppp.corpora.catalog import load_corpus
from optuna_peppp.lowprecision import Experiment, TrainingResult
from optuna_peppp.prediction import Prediction
from optuna_peppp.studies.results import predict

README = (Path(__file__).parents[2] / "README.md").read_text()
ARCHITECTURE = (Path(__file__).parents[2] / "optuna_peppp" / "README.md").read_text()
(PRUNING,) = re.findall(r"```python\n(.*?)```", ARCHITECTURE, re.DOTALL)
STUDY, LOOP, PLUGIN = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_programs_are_short() -> None:
    assert len(STUDY.splitlines()) <= 15
    assert len(LOOP.splitlines()) <= 20
    assert len(PLUGIN.splitlines()) <= 8


@pytest.mark.slow
def test_a_study_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(STUDY, names)
    prediction = predict(names["study"], names["meta"], names["memory"])
    assert isinstance(prediction, Prediction)
    assert prediction.measured.sum() == 6
    recommendation = prediction.recommend("2.8MB")
    assert recommendation.memory <= 2.8e6
    # Far better than the 0.9 of guessing among ten digits.
    assert recommendation.error < 0.3


@pytest.mark.slow
def test_a_loop_of_ones_own_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(LOOP, names)
    assert names["error"] < 0.1
    # A schedule that ends at zero has been followed.
    assert names["optimizer"].param_groups[0]["lr"] < 1e-6


def test_pruning_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(PRUNING, names)
    study, memory = names["study"], names["memory"]
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert pruned
    assert len(pruned) + len(complete) == 8
    asked = [names["space"].index(trial.params) for trial in study.trials]
    assert len(set(asked)) == 8
    prediction = predict(study, names["meta"], memory)
    measured = {names["space"].index(trial.params) for trial in complete}
    assert set(prediction.measured.nonzero()[0].tolist()) == measured
    # Memory was never told, and is known: configurations of different sizes are on the frontier.
    assert len(set(memory[prediction.frontier])) > 2


def test_plugins_run_as_printed(tmp_path: Path) -> None:
    """In an empty folder, by the command that is printed: one short training of it."""
    (command,) = re.findall(r"`optuna-peppp (tune --data mine[^`]*)`", README)
    (tmp_path / "mine.py").write_text(PLUGIN)
    more = ["--trials", "1", "--epochs", "1", "--no-baseline", "--batch-size", "1437"]
    result = subprocess.run(
        [sys.executable, "-m", "optuna_peppp", *shlex.split(command), *more],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Tuning mine:network on mine:data" in result.stderr
    assert "Measured, 1 of 99 configurations" in result.stdout


def test_the_command_prints_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, where trainings give the errors that are printed."""
    (printed,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    errors: dict[tuple[str, ...], float] = {
        (format_a, format_b): float(error)
        for format_a, format_b, error in re.findall(
            r"^>? +(\S+) +(\S+) +\S+ MB +(\S+)  measured", printed, re.MULTILINE
        )
    }
    # Whose formats hold every float32.
    errors["1-8-23", "1-8-23"] = errors.pop(("float32", "float32"))
    asked: list[tuple[str, ...]] = []

    def measure(_: Experiment, params: Mapping[str, str], *__: object) -> TrainingResult:
        asked.append(tuple(params.values()))
        # Three epochs on 360 images.
        error = round(errors[asked[-1]] * 1080) / 1080
        return TrainingResult(error, (error,), diverged=False, epochs=6)

    monkeypatch.setattr(Experiment, "measure", measure)
    result = CliRunner().invoke(app, ["tune"])
    assert result.exit_code == 0, result.output
    assert sorted(asked) == sorted(errors)
    begin, rest = printed.split("...\n")
    told, next_step = rest.split("Next: ")
    assert result.stdout.replace("\n\n", "\n") == told
    assert result.stderr.startswith(begin)
    assert result.stderr.endswith(f"Next: {next_step}")


def test_both_commands_are_shown() -> None:
    assert "pip install . && optuna-peppp tune" in README
    assert 'pip install ".[test]" && pytest -n auto' in README


def test_the_corpus_that_ships_is_complete() -> None:
    matrix = load_corpus("plain3-cifar100")
    assert len(matrix.tasks) >= 10
    assert len(matrix.space) == 99
    assert matrix.observed.all()
    assert matrix.settings == {"learning_rate": 0.001}
    # Fuller formats do better: the corpus has something to teach.
    best = matrix.errors[:, matrix.space.index({"format_a": "1-5-3", "format_b": "1-8-11"})]
    worst = matrix.errors[:, matrix.space.index({"format_a": "1-3-1", "format_b": "1-6-7"})]
    assert (best < worst).all()
