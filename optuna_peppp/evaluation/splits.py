"""A past task that is left out: what a strategy measures of it, and how it is predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optuna_peppp.acquisition.strategies import Progress, Strategy
from optuna_peppp.evaluation.quality import Quality
from optuna_peppp.meta.model import MetaModel


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A task that is left out, and what the others tell.

    Attributes:
        meta: The meta-model of the other tasks.
        memory: Shape (d,), bytes; NaN where unknown.
        errors: Shape (d,), the true errors; NaN where unknown.
        considered: Shape (d,), true where the error is known and the memory within the cap.
        feasible: Shape (d,), true where one of these may be measured.
    """

    meta: MetaModel
    memory: NDArray[np.float64]
    errors: NDArray[np.float64]
    considered: NDArray[np.bool_]
    feasible: NDArray[np.bool_]

    def qualities(
        self, strategy: Strategy, measurements: Sequence[int], seed: int
    ) -> list[Quality]:
        """Lets a strategy measure, and judges the prediction after so many measurements.

        Args:
            strategy: The strategy.
            measurements: Ascending.
            seed: Passed to the strategy.
        """
        compared = np.flatnonzero(self.considered)
        qualities = []
        for indices, predicted in self.predictions(strategy, measurements, seed):
            measured = np.zeros(len(predicted), dtype=np.bool_)
            measured[list(indices)] = True
            qualities.append(
                Quality.of(
                    self.memory[compared],
                    self.errors[compared],
                    predicted[compared],
                    measured[compared],
                )
            )
        return qualities

    def predictions(
        self, strategy: Strategy, measurements: Sequence[int], seed: int
    ) -> Iterator[tuple[tuple[int, ...], NDArray[np.float64]]]:
        """What a strategy measured and predicts after so many measurements; see qualities.

        Yields:
            The measured configurations in their order, and the errors (d,), predicted where
            they were not measured.
        """
        indices: list[int] = []
        errors: list[float] = []
        feasible = int(self.feasible.sum())
        for count in measurements:
            while True:
                progress = Progress(
                    self.meta,
                    self.memory,
                    self.considered,
                    self.feasible,
                    tuple(indices),
                    tuple(errors),
                    seed,
                )
                if len(indices) >= min(count, feasible):
                    break
                index = strategy.choose(progress)
                if not self.feasible[index] or index in indices:
                    raise ValueError(
                        "strategy must choose a feasible configuration that was not measured; "
                        f"it chose {index} after {indices}"
                    )
                indices.append(index)
                errors.append(float(self.errors[index]))
            predicted = strategy.predict(progress)
            predicted[indices] = errors
            yield tuple(indices), predicted
