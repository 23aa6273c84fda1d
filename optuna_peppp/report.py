"""A prediction as people and as programs read it."""

from __future__ import annotations

import json

import numpy as np

from optuna_peppp.prediction import Prediction, Recommendation
from optuna_peppp.sizes import format_size


def as_text(
    prediction: Prediction, recommendation: Recommendation, memory_cap: str | None = None
) -> str:
    """What was measured, the frontier and the recommendation, as tables by growing memory.

    Args:
        prediction: All configurations of a task.
        recommendation: Which of them to use; marked in the frontier.
        memory_cap: The cap it was made for, as its user wrote it.
    """
    by_memory = np.argsort(prediction.memory, kind="stable")
    measured = by_memory[prediction.measured[by_memory]].tolist()
    within = f" within {memory_cap}" if memory_cap else ""
    params = ", ".join(f"{name} {value}" for name, value in recommendation.params.items())
    return "\n".join(
        [
            f"Measured, {len(measured)} of {len(prediction.space)} configurations:",
            *_rows(prediction, measured),
            "",
            "Frontier, measured and predicted:",
            *_rows(prediction, prediction.frontier.tolist(), chosen=recommendation.index),
            "",
            f"Recommended{within}: {params}, memory {format_size(recommendation.memory)}, "
            f"error {recommendation.error:.4f} "
            f"({'measured' if recommendation.measured else 'predicted'})",
        ]
    )


def as_json(prediction: Prediction, recommendation: Recommendation) -> str:
    """All configurations, and the indices of the frontier and of the recommendation.

    Memory is in bytes.
    """
    configurations = [
        {
            **prediction.space.params(index),
            "memory": float(prediction.memory[index]),
            "error": float(prediction.mean[index]),
            "std": float(prediction.std[index]),
            "measured": bool(prediction.measured[index]),
        }
        for index in range(len(prediction.space))
    ]
    content = {
        "configurations": configurations,
        "frontier": prediction.frontier.tolist(),
        "recommendation": recommendation.index,
    }
    return json.dumps(content, indent=2) + "\n"


def _rows(prediction: Prediction, indices: list[int], chosen: int | None = None) -> list[str]:
    """A header and a line per configuration, the chosen one marked."""
    rows = ["  " + "".join(f"{n:>14}" for n in (*prediction.space.names, "memory", "error"))]
    for index in indices:
        cells = [str(value) for value in prediction.space.params(index).values()]
        cells += [format_size(prediction.memory[index]), f"{prediction.mean[index]:.4f}"]
        doubt = "" if prediction.measured[index] else f" ± {prediction.std[index]:.4f} predicted"
        mark = "> " if index == chosen else "  "
        rows.append(mark + "".join(f"{cell:>14}" for cell in cells) + doubt)
    return rows
