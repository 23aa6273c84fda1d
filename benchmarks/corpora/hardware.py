"""Which configurations are worth building: counts on frontiers, and the fewest that will do."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from optuna_peppp import ConfigurationSpace, ErrorMatrix, pareto
from optuna_peppp.configurations.space import Value
from optuna_peppp.evaluation.quality import CAPS
from optuna_peppp.pareto import scale

_SLACK: Final = 1e-6
"""Errors are written with six digits: that much more is no loss."""


def on_frontier(corpus: ErrorMatrix) -> NDArray[np.bool_]:
    """Shape (n, d), true where a configuration is nondominated on a task."""
    return np.array(
        [
            pareto.nondominated(np.column_stack(points))
            for points in zip(corpus.memory, corpus.errors, strict=True)
        ]
    )


def marginal_counts(
    space: ConfigurationSpace, marked: NDArray[np.bool_]
) -> list[tuple[str, Value, int, int]]:
    """How often every value of every tuned name is on a frontier (paper, Appendix D).

    Name, value, the number of frontier points (of ``marked``, shape (n, d)) that have it, and the
    number of tasks with such a point.
    """
    counts = []
    for name, values in space.choices.items():
        for value in values:
            own = marked[:, space.matching({name: value})]
            counts.append((name, value, int(own.sum()), int(own.any(axis=1).sum())))
    return counts


def near_best(corpus: ErrorMatrix, tolerance: float) -> NDArray[np.bool_]:
    """What is allowed and good enough under every memory cap of every task: shape (10 n, d).

    The caps are a tenth of the way from a task's least memory to its most, two tenths, and so
    on; good enough is an error of at most ``tolerance`` above the lowest under the cap.
    """
    rows = []
    for errors, memory in zip(corpus.errors, corpus.memory, strict=True):
        scaled = scale(memory)
        for cap in np.linspace(0, 1, CAPS + 1)[1:]:
            allowed = scaled <= cap
            rows.append(allowed & (errors <= errors[allowed].min() + tolerance + _SLACK))
    return np.array(rows)


def smallest_set(good: NDArray[np.bool_], memory: NDArray[np.float64]) -> NDArray[np.intp]:
    """The fewest configurations of which every row has a good one; of equals, the least memory.

    ``good`` has shape (m, d), at least one true in a row. The exact optimum, ascending.
    """
    # All memory together counts less than one configuration more.
    weights = 1 + memory / (memory.sum() + memory.max())
    covered = LinearConstraint(np.unique(good, axis=0).astype(np.float64), lb=1)
    found = milp(
        weights,
        integrality=np.ones(len(weights), dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=covered,
        options={"mip_rel_gap": 0},
    )
    if not found.success:
        raise RuntimeError(f"the integer program was not solved: {found.message}")
    return np.flatnonzero(found.x > 0.5)
