"""``tune --report``; what the page holds is tested with the page."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest
from typer.testing import Result

from optuna_peppp.lowprecision import Experiment
from optuna_peppp.lowprecision.training.loop import TrainingResult


def test_tune_writes_the_page(tune: Callable[..., Result], corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    result = tune("--trials", "2", "--memory-cap", "2.9MB", "--report", file)
    page = file.read_text(encoding="utf-8")
    recommended = result.stdout.splitlines()[-1]
    assert recommended.startswith("Recommended within 2.9MB")
    assert html.escape(recommended) in page
    assert "Measured: 2 of 99 configurations" in page
    for name, value in (
        ("network", "plain3"),
        ("epochs", "1"),
        ("learned from", corpus),
        ("strategy", "bayesian"),
        ("memory cap", "2.9MB"),
    ):
        assert f"<td>{name}</td><td>{value}</td>" in page
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("measured", [0, 1])
def test_an_interrupted_run_reports_what_was_measured(
    measured: int, tune: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count()

    def measure(self: Experiment, *_: object) -> TrainingResult:
        if next(calls) == measured:
            raise KeyboardInterrupt
        return TrainingResult(0.25, (0.25,), diverged=False, epochs=1)

    monkeypatch.setattr(Experiment, "measure", measure)
    file = tmp_path / "page.html"
    tune("--trials", "4", "--report", file, code=130)
    assert file.exists() == bool(measured)
    if measured:
        assert "Measured: 1 of 99 configurations" in file.read_text(encoding="utf-8")


@pytest.fixture
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: Experiment, *_: object) -> NoReturn:
        pytest.fail("trained")

    monkeypatch.setattr(Experiment, "measure", measure)


@pytest.mark.usefixtures("_nothing_is_trained")
def test_a_missing_folder(tune: Callable[..., Result], tmp_path: Path) -> None:
    result = tune("--report", tmp_path / "none" / "page.html", code=2)
    assert "'--report': there is no folder" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_nothing_is_trained")
def test_missing_plotly(
    tune: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("plotly", "plotly.graph_objects"):
        monkeypatch.setitem(sys.modules, module, None)
    result = tune("--report", tmp_path / "page.html", code=2)
    told = " ".join(result.output.replace("│", " ").split())
    assert "'--report': figures need plotly" in told
    assert 'pip install "optuna_peppp[visualization]"' in told
    assert not list(tmp_path.iterdir())
