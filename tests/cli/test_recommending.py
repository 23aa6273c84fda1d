"""``recommend`` of precision assignments; of other studies it is tested with ``tune``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from typer.testing import Result

from optuna_peppp.lowprecision import Experiment
from optuna_peppp.lowprecision.training.loop import TrainingResult

CHOICES = {
    "format_low": ["1-3-1"],
    "format_high": ["1-4-3"],
    "format_b": ["1-6-9"],
    "demotion": [0.0, 0.5, 1.0],
}


def test_an_assignment_is_told_and_written(
    invoke: Callable[..., Result], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(self: Experiment, *_: object) -> TrainingResult:
        return TrainingResult(0.25, (0.25,), diverged=False, epochs=1)

    monkeypatch.setattr(Experiment, "measure", measure)
    space, export, page = (tmp_path / name for name in ("space.json", "a.json", "page.html"))
    space.write_text(json.dumps(CHOICES))
    storage = "--storage", f"{tmp_path}/tune.journal"
    tuned = invoke("tune", "--data", data, "--space", space, "--trials", "3", *storage)
    # All errors are equal, so that everything is low but for the logits, plain3's fifth group.
    told = invoke("recommend", *storage, "--export", export, "--report", page)
    line = "Its groups of layers, input first, l low (1-3-1), H high (1-4-3), - neither: llll-; "
    assert line in tuned.stdout
    assert line in told.stdout
    content = json.loads(export.read_text())
    assert content["sites"]["(input)"]["formats"] == {"input": "1-6-9"}
    weights = {layer["formats"]["weights"] for layer in content["parameters"].values()}
    assert weights == {"1-3-1"}
    assert 'id="layers"' in page.read_text(encoding="utf-8")

    def gone(*_: object) -> NoReturn:
        raise FileNotFoundError("no such data set")

    monkeypatch.setattr(Experiment, "load", gone)
    without = invoke("recommend", *storage)
    assert "Which layers are low is not told" in without.stderr
    lines = told.stdout.splitlines()
    assert without.stdout.splitlines() == [x for x in lines if not x.startswith("Its groups")]
    assert "no such data set" in invoke("recommend", *storage, "--export", export, code=2).stderr


def test_other_studies_have_no_assignment_to_write(
    invoke: Callable[..., Result], tune: Callable[..., Result], tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/tune.db"
    tune("--trials", "1", "--no-baseline", "--storage", storage)
    export = tmp_path / "a.json"
    refused = invoke("recommend", "--storage", storage, "--export", export, code=2)
    assert "--export writes precision assignments" in refused.stderr
    assert not export.exists()


def test_a_recommendation_in_the_words_of_another_tool(
    invoke: Callable[..., Result], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(self: Experiment, *_: object) -> TrainingResult:
        return TrainingResult(0.25, (0.25,), diverged=False, epochs=1)

    monkeypatch.setattr(Experiment, "measure", measure)
    choices = {"activations": ["bfloat16"], "states": ["dynamic8@256"], "master": ["float32"]}
    space = tmp_path / "space.json"
    space.write_text(json.dumps(choices | {"learning_rate": [0.01, 0.02]}))
    storage = "--storage", f"{tmp_path}/tune.journal"
    invoke("tune", "--data", data, "--space", space, "--trials", "2", *storage)
    told = invoke("recommend", *storage, "--export", "bitsandbytes").stdout
    assert "import bitsandbytes as bnb" in told
    assert "bnb.optim.SGD8bit(model.parameters(), lr=0.0" in told
