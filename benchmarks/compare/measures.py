"""How good what a run measured, and what it recommends, is by the truth of its task.

Memory is scaled to [0, 1] within the task and hypervolumes have the reference point (memory 1.05,
error 1), as in :mod:`optuna_peppp.evaluation.quality`.

What a sampler recommends is a frontier: ours that of its prediction, the others that of what they
measured. Under a memory cap it recommends the last configuration of the frontier within the cap;
where there is none (nothing measured fits), the user has no network, which counts as error 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from runs import Run

from optuna_peppp import pareto
from optuna_peppp.evaluation.quality import CAPS
from optuna_peppp.pareto import REFERENCE, scale

SHARES: Final = (0.90, 0.95, 0.99)
"""Shares of the true hypervolume whose first reaching is timed."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands after so many measurements; lower is better throughout.

    Attributes:
        hypervolume_regret: Hypervolume of the true frontier less that of what was measured.
        recommended_regret: Hypervolume of the true frontier less that of the recommended
            configurations at their true errors.
        cap_regret: True error of the recommended configuration less the lowest under the cap,
            mean over ten memory caps equally spaced up to the largest memory.
        relative_memory: Memory of all measurements by that of measuring everything once.
    """

    hypervolume_regret: float
    recommended_regret: float
    cap_regret: float
    relative_memory: float


class Truth:
    """What is true of a task.

    Args:
        memory: Shape (d,), in any unit.
        errors: Shape (d,).
    """

    def __init__(self, memory: NDArray[np.float64], errors: NDArray[np.float64]) -> None:
        self._memory = memory
        self._errors = errors
        self._points = np.column_stack((scale(memory), errors))
        self._volume = pareto.hypervolume(self._points, REFERENCE)

    def standing(
        self, measured: Sequence[int], recommended: Sequence[int] | None = None
    ) -> Standing:
        """Judges a run.

        Args:
            measured: The configurations measured so far, repeats included.
            recommended: The predicted frontier by growing memory; None for that of ``measured``.
        """
        where = np.array(measured)
        if recommended is None:
            recommended = where[pareto.frontier(self._points[where])].tolist()
        return Standing(
            self._volume - self._dominated(measured),
            self._volume - self._dominated(recommended),
            self._cap_regret(recommended),
            float(self._memory[where].sum() / self._memory.sum()),
        )

    def reached(self, measured: Sequence[int], share: float) -> float:
        """Measurements needed to hold a share of the true hypervolume; infinite if not reached."""
        for count in range(1, len(measured) + 1):
            if self._dominated(measured[:count]) >= share * self._volume:
                return count
        return math.inf

    def _dominated(self, indices: Sequence[int]) -> float:
        return pareto.hypervolume(self._points[np.array(indices)], REFERENCE)

    def _cap_regret(self, recommended: Sequence[int]) -> float:
        memory = self._points[:, 0]
        regrets = []
        for cap in np.linspace(0, 1, CAPS + 1)[1:]:
            allowed = [index for index in recommended if memory[index] <= cap]
            error = self._errors[allowed[-1]] if allowed else 1.0
            regrets.append(error - self._errors[memory <= cap].min())
        return float(np.mean(regrets))


def after(truth: Truth, run: Run, count: int, *, distinct: bool) -> Standing:
    """Where a run stands after ``count`` measurements.

    Args:
        truth: Of the run's task.
        run: The run.
        count: Measurements.
        distinct: Count different configurations only, as if repeats came from a cache for
            nothing. A run that never gets so far is judged by all that it measured.
    """
    indices = list(dict.fromkeys(run.indices)) if distinct else run.indices
    return truth.standing(indices[:count], run.frontiers.get(count))
