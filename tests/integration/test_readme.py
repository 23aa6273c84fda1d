"""The README does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from optuna_peppp.corpora.catalog import load_corpus
from optuna_peppp.prediction import Prediction
from optuna_peppp.studies.results import predict

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.slow
def test_example_runs_as_printed() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 15
    names: dict[str, Any] = {}
    exec(code, names)
    prediction = predict(names["study"], names["meta"], names["memory"])
    assert isinstance(prediction, Prediction)
    assert prediction.measured.sum() == 6
    recommendation = prediction.recommend("2.8MB")
    assert recommendation.memory <= 2.8e6
    # Far better than the 0.9 of guessing among ten digits.
    assert recommendation.error < 0.3


def test_both_commands_are_shown() -> None:
    assert "pip install . && optuna-peppp tune" in README
    assert 'pip install ".[test]" && pytest -n auto' in README


def test_pictures_exist() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", README)
    assert pictures
    for picture in pictures:
        assert (Path(__file__).parents[2] / picture).is_file()


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
