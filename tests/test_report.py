from __future__ import annotations

import json

import numpy as np

from optuna_peppp.prediction import Prediction
from optuna_peppp.report import as_json, as_text
from optuna_peppp.space import ConfigurationSpace

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1"], "learning_rate": [0.1, 0.01]})
PREDICTION = Prediction(
    SPACE,
    memory=np.array([3e6, 1e6, 2e6, 4e6]),
    mean=np.array([0.2, 0.5, 0.3, 0.4]),
    std=np.array([0.0, 0.01, 0.02, 0.0]),
    measured=np.array([True, False, False, True]),
)


def test_text_lists_by_memory_and_marks_the_recommendation() -> None:
    text = as_text(PREDICTION, PREDICTION.recommend("2.5MB"), "2.5MB")
    *tables, last = text.splitlines()
    header = ["format_a", "learning_rate", "memory", "error"]
    assert [line.split() for line in tables] == [
        ["Measured,", "2", "of", "4", "configurations:"],
        header,
        ["1-3-1", "0.1", "3", "MB", "0.2000"],
        ["1-4-1", "0.01", "4", "MB", "0.4000"],
        [],
        ["Frontier,", "measured", "and", "predicted:"],
        header,
        ["1-3-1", "0.01", "1", "MB", "0.5000", "±", "0.0100", "predicted"],
        [">", "1-4-1", "0.1", "2", "MB", "0.3000", "±", "0.0200", "predicted"],
        ["1-3-1", "0.1", "3", "MB", "0.2000"],
        [],
    ]
    assert last == (
        "Recommended within 2.5MB: format_a 1-4-1, learning_rate 0.1, memory 2 MB, "
        "error 0.3000 (predicted)"
    )


def test_text_without_a_cap() -> None:
    text = as_text(PREDICTION, PREDICTION.recommend())
    assert text.splitlines()[-1] == (
        "Recommended: format_a 1-3-1, learning_rate 0.1, memory 3 MB, error 0.2000 (measured)"
    )


def test_json_holds_every_configuration() -> None:
    content = json.loads(as_json(PREDICTION, PREDICTION.recommend("2.5MB")))
    assert content["frontier"] == [1, 2, 0]
    assert content["recommendation"] == 2
    assert content["configurations"][3] == {
        "format_a": "1-4-1",
        "learning_rate": 0.01,
        "memory": 4e6,
        "error": 0.4,
        "std": 0.0,
        "measured": True,
    }
