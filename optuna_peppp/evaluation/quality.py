"""How close the prediction of a task comes to its truth.

Memory is scaled to [0, 1] within the configurations compared, the least to the most; hypervolumes
have the reference point (memory 1.05, error 1), so that the configuration of most memory counts
too. The true frontier is that of the true errors, the predicted one that of the prediction, in
which measured errors are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp import pareto
from optuna_peppp.pareto import REFERENCE, predicted_frontier, scale
from optuna_peppp.prediction import RIGHT, Prediction

CAPS: Final = 10
"""Memory caps under which a recommendation is judged, equally spaced up to the largest memory."""


def coverage(interval: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """The share of true errors that lie in their intervals: 0.9 where 90% intervals are right.

    Args:
        interval: Shape (2, m), bounds, such as those of :attr:`Prediction.interval` where nothing
            was measured.
        errors: Shape (m,), the true errors, one at least.

    >>> coverage(np.array([[0.1, 0.3], [0.2, 0.4]]), np.array([0.15, 0.5]))
    0.5
    """
    low, high = interval
    return float(((low <= errors) & (errors <= high)).mean())


def claimed_and_right(prediction: Prediction, errors: NDArray[np.float64]) -> tuple[float, float]:
    """How often recommendations say that they are right, and how often they are.

    Right is an error within 0.01 of the lowest under the cap; means over ten memory caps, as in
    :attr:`Quality.recommendation_regret`.

    Args:
        prediction: Of a task.
        errors: Shape (d,), the true errors.

    Returns:
        The mean probability that was claimed, and the share that was right.
    """
    memory = prediction.memory
    claimed, right = [], []
    for cap in np.linspace(memory.min(), memory.max(), CAPS + 1)[1:]:
        recommended = prediction.recommend(cap)
        claimed.append(recommended.probability)
        right.append(errors[recommended.index] <= errors[memory <= cap].min() + RIGHT)
    return float(np.mean(claimed)), float(np.mean(right))


@dataclass(frozen=True, slots=True)
class Quality:
    """How close a prediction comes to the truth of a task; lower is better throughout.

    Attributes:
        convergence: Mean distance of the predicted frontier's points, at their predicted errors,
            to the nearest point of the true frontier (paper, Figure 8a).
        hyperdiff: Absolute difference of the hypervolumes of the predicted frontier, at its
            predicted errors, and of the true one (paper, Figure 8b).
        hypervolume_regret: Hypervolume of the true frontier less that of the predicted
            frontier's configurations at their true errors: what one loses who trains all these.
        relative_error: Norm of predicted less true errors, by the norm of the true ones (paper,
            Section 4).
        recommendation_regret: True error of the recommended configuration less the lowest under
            the cap, mean over ten memory caps: a tenth of the way from the least memory to the
            most, two tenths, and so on.
        relative_memory: Memory of all measurements by that of measuring everything.
    """

    convergence: float
    hyperdiff: float
    hypervolume_regret: float
    relative_error: float
    recommendation_regret: float
    relative_memory: float

    @classmethod
    def of(
        cls,
        memory: NDArray[np.float64],
        errors: NDArray[np.float64],
        predicted: NDArray[np.float64],
        measured: NDArray[np.bool_],
    ) -> Quality:
        """Compares the prediction of a task with its truth.

        Args:
            memory: Shape (d,), in any unit.
            errors: Shape (d,), the true errors.
            predicted: Shape (d,), the predicted errors, measured ones kept.
            measured: Shape (d,), true where the error was measured.
        """
        scaled = scale(memory)
        truth = np.column_stack((scaled, errors))
        estimate = np.column_stack((scaled, predicted))
        best = pareto.frontier(truth)
        frontier = predicted_frontier(scaled, predicted, measured)
        regrets = []
        for cap in np.linspace(0, 1, CAPS + 1)[1:]:
            recommended = frontier[scaled[frontier] <= cap][-1]
            regrets.append(errors[recommended] - errors[scaled <= cap].min())
        volume = pareto.hypervolume(truth[best], REFERENCE)
        return cls(
            convergence=pareto.convergence(estimate[frontier], truth[best]),
            hyperdiff=pareto.hyperdiff(estimate[frontier], truth[best], REFERENCE),
            hypervolume_regret=volume - pareto.hypervolume(truth[frontier], REFERENCE),
            relative_error=float(
                np.linalg.norm(predicted - errors) / (np.linalg.norm(errors) or 1.0)
            ),
            recommendation_regret=float(np.mean(regrets)),
            relative_memory=float(memory[measured].sum() / memory.sum()),
        )
