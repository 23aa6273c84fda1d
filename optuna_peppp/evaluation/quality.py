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


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far what a prediction says about its own uncertainty holds.

    Attributes:
        coverage: Share of the errors not measured that lie in their 90% interval; NaN where all
            were measured.
        area: Absolute difference of the expected dominated area and the true one: HyperDiff
            without its bias, for the frontier of expected errors dominates less than is to be
            expected.
        right: Share of recommendations, without a cap and under each of nine, whose true error is
            within ``prediction.RIGHT`` of the lowest.
        claimed: Mean probability that the recommendations claimed for that.
    """

    coverage: float
    area: float
    right: float
    claimed: float

    @classmethod
    def of(cls, prediction: Prediction, errors: NDArray[np.float64]) -> Calibration:
        """Compares what a prediction claims with the true errors, shape (d,)."""
        memory = prediction.memory
        low, high = prediction.interval
        inside = ((low <= errors) & (errors <= high))[~prediction.measured]
        points = np.column_stack((scale(memory), errors))
        expected, _, _ = prediction.dominated_area
        smallest, largest = float(memory.min()), float(memory.max())
        recommended = [
            (prediction.recommend(cap), errors[memory <= cap].min())
            for cap in np.linspace(smallest, largest, CAPS + 1)[1:]
        ]
        return cls(
            coverage=float(inside.mean()) if inside.size else np.nan,
            area=abs(expected - pareto.hypervolume(points, REFERENCE)),
            right=float(np.mean([errors[r.index] <= best + RIGHT for r, best in recommended])),
            claimed=float(np.mean([r.probability for r, _ in recommended])),
        )
