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

from benchmarks.samplers.runs import Run
from optuna_peppp import pareto
from optuna_peppp.evaluation.quality import CAPS
from optuna_peppp.pareto import REFERENCE, scale

SHARES: Final = (0.90, 0.95, 0.99)
"""Shares of the true hypervolume whose first reaching is timed."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands after so many measurements; lower is better throughout.

    Regret is of hypervolume, of what was measured and of what is recommended at its true errors;
    and of the true error of what is recommended, mean over ten memory caps equally spaced up to the
    largest. Memory of all measurements is relative to that of measuring everything once.
    """

    hypervolume_regret: float
    recommended_regret: float
    cap_regret: float
    relative_memory: float


class Truth:
    """What is true of a task: memory (d,) in any unit, errors (d,)."""

    def __init__(self, memory: NDArray[np.float64], errors: NDArray[np.float64]) -> None:
        self._memory = memory
        self._errors = errors
        self._points = np.column_stack((scale(memory), errors))
        self._volume = pareto.hypervolume(self._points, REFERENCE)

    def standing(
        self, measured: Sequence[int], recommended: Sequence[int] | None = None
    ) -> Standing:
        """Judges what was measured so far, and the predicted frontier by growing memory.

        Without a prediction what is recommended is the frontier of what was measured.
        """
        indices = np.array(measured)
        if recommended is None:
            recommended = indices[pareto.frontier(self._points[indices])].tolist()
        return Standing(
            self._volume - self._dominated(measured),
            self._volume - self._dominated(recommended),
            self._cap_regret(recommended),
            float(self._memory[indices].sum() / self._memory.sum()),
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
    """Where a run stands after ``count`` measurements; one that ends earlier by all of them.

    ``distinct`` counts different configurations only, as if repeats came from a cache for nothing.
    """
    indices = list(dict.fromkeys(run.indices)) if distinct else run.indices
    return truth.standing(indices[:count], run.frontiers.get(count))
