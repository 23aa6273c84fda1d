"""What to do once a task is tuned, as far as its prediction tells."""

from __future__ import annotations

from typing import Final

import numpy as np

from optuna_peppp.prediction import RIGHT, Prediction, Recommendation
from optuna_peppp.text import printable

_SURE: Final = 0.9
"""The probability of being right from which more measurements are not worth it."""


def advice(
    prediction: Prediction, recommendation: Recommendation, memory_cap: str | None = None
) -> list[str]:
    """What to do next, a sentence each, the most useful first.

    Args:
        prediction: What the study tells of all configurations.
        recommendation: The configuration to use.
        memory_cap: The cap it was made for, as its user wrote it.
    """
    cost, steps = prediction.cost, []
    if not recommendation.measured:
        steps.append(
            "Train the recommended configuration before you rely on it: its error is predicted, "
            f"± {recommendation.std:.4f}."
        )
    if prediction.measured.all():
        steps.append("Everything is measured: there is nothing left to ask for.")
    elif recommendation.probability < _SURE:
        steps.append(
            f"Measure more (tune --trials): with probability {1 - recommendation.probability:.0%} "
            f"another configuration has an error lower by more than {RIGHT}."
        )
    else:
        steps.append("Stop measuring: hardly any other configuration can be better.")
    needed = prediction.memory[prediction.frontier]
    below = np.flatnonzero(needed < recommendation.memory)
    if below.size:
        index = int(prediction.frontier[below[-1]])
        steps.append(
            f"To save more, {printable(cost.format(prediction.memory[index]))} of "
            f"{printable(cost.name)} cost an error of {prediction.mean[index]:.4f} "
            "(recommend --memory-cap)."
        )
    above = np.flatnonzero(needed > recommendation.memory)
    if memory_cap is not None and above.size:
        index = int(prediction.frontier[above[0]])
        steps.append(
            f"Without the cap, {printable(cost.format(prediction.memory[index]))} reach an error "
            f"of {prediction.mean[index]:.4f}."
        )
    return steps
