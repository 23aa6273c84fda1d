from __future__ import annotations

import numpy as np
import pytest

from optuna_peppp.configurations.cost import Cost
from optuna_peppp.configurations.space import ConfigurationSpace
from optuna_peppp.prediction import Prediction
from optuna_peppp.report.advice import advice

SPACE = ConfigurationSpace({"format_a": ["1-3-1", "1-4-1", "1-4-3"], "learning_rate": [0.1]})


def told(measured: list[bool], spread: float, cap: str | None = None) -> list[str]:
    """Advice where more memory is better, and what is not measured is normal about 0.4, ..."""
    known = np.array(measured)
    means = np.array([0.4, 0.3, 0.2])
    noise = np.random.default_rng(0).normal(size=(400, 3))
    std = np.where(known, 0.0, spread)
    prediction = Prediction(
        SPACE, Cost(np.array([1e6, 2e6, 3e6])), means, std, known, means + std * noise
    )
    return advice(prediction, prediction.recommend(cap), cap)


def test_what_is_predicted_is_to_be_trained() -> None:
    train, more, less = told([True, False, False], 0.2)
    assert train.endswith("its error is predicted, ± 0.2000.")
    assert more.startswith("Measure more (tune --trials): with probability")
    assert less.startswith("To save more, 2 MB of memory cost an error of 0.3000")


def test_who_is_sure_stops() -> None:
    stop, _ = told([True, False, True], 0.001)
    assert stop.startswith("Stop measuring")
    assert told([True] * 3, 0.0)[0].startswith("Everything is measured")


@pytest.mark.parametrize(("cap", "expected"), [("2.5MB", 3), ("1.5MB", 2)])
def test_a_cap_has_a_price(cap: str, expected: int) -> None:
    steps = told([True] * 3, 0.0, cap)
    assert len(steps) == expected
    assert steps[-1].startswith("Without the cap, ")
