"""What the runs say together: means over tasks, and differences from the best built-in sampler.

Seeds are averaged within a task first; standard errors are over tasks. The best built-in is the
one with the lowest mean of that measure after that many measurements: chosen with hindsight, in
its favour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.tables import Row, mean_and_error
from benchmarks.samplers.contestants import CONTESTANTS, BuiltIn
from benchmarks.samplers.measures import SHARES, Standing, Truth, after
from benchmarks.samplers.runs import Run

COUNTED: Final = ("trials", "distinct")
"""What counts as a measurement: every trial, or different configurations only."""

MEASURES: Final = tuple(field.name for field in fields(Standing))


def summarize(
    truths: Mapping[str, Truth], runs: Mapping[str, Sequence[Run]], budgets: Sequence[int]
) -> list[Row]:
    """The means of every sampler after some numbers of measurements, in the order of ``runs``.

    ``runs`` are by sampler, all on the same seeds and on the tasks of ``truths``. Of a single task
    the standard errors are NaN; without built-in samplers so are the differences, and the ratio of
    the means is where that of the best built-in is 0.
    """
    rows: list[Row] = []
    for counted, count in product(COUNTED, budgets):
        of_samplers = {
            sampler: _over_seeds(truths, own, count, distinct=counted == "distinct")
            for sampler, own in runs.items()
        }
        for column, measure in enumerate(MEASURES):
            values = {sampler: array[:, column] for sampler, array in of_samplers.items()}
            built_in = [s for s in values if isinstance(CONTESTANTS[s], BuiltIn)]
            best = min(built_in, key=lambda s: values[s].mean(), default="")
            for sampler, own in values.items():
                mean, error = mean_and_error(own)
                other = values[best] if best else np.full(len(own), np.nan)
                difference, difference_error = mean_and_error(own - other)
                rows.append(
                    {
                        "sampler": sampler,
                        "counted": counted,
                        "measurements": count,
                        "measure": measure,
                        "tasks": len(own),
                        "mean": mean,
                        "standard_error": error,
                        "best_built_in": best,
                        "difference": difference,
                        "difference_standard_error": difference_error,
                        "ratio": float(mean / other.mean()) if other.mean() else math.nan,
                    }
                )
    return rows


def efforts(truths: Mapping[str, Truth], runs: Mapping[str, Sequence[Run]]) -> list[Row]:
    """What every sampler needed: a row a share of the true hypervolume.

    Trials until it was reached are infinite where most runs did not; milliseconds are processor
    time of a trial, ``distinct`` is the mean number of different configurations in a run.
    """
    rows: list[Row] = []
    for sampler, own in runs.items():
        milliseconds = np.concatenate([run.milliseconds for run in own])
        for share in SHARES:
            needed = np.array([truths[run.task].reached(run.indices, share) for run in own])
            rows.append(
                {
                    "sampler": sampler,
                    "runs": len(own),
                    "trials": max(len(run.indices) for run in own),
                    "distinct": float(np.mean([len(set(run.indices)) for run in own])),
                    "share": share,
                    "reached": float(np.isfinite(needed).mean()),
                    "median_trials": median(needed),
                    "median_milliseconds": float(np.median(milliseconds)),
                    "mean_milliseconds": float(milliseconds.mean()),
                }
            )
    return rows


def median(values: NDArray[np.float64]) -> float:
    """The median of numbers some of which are infinite.

    >>> median(np.array([1.0, 4.0, np.inf])), median(np.array([1.0, np.inf]))
    (4.0, inf)
    """
    low, high = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
    return float(low if low == high else (low + high) / 2)


def _over_seeds(
    truths: Mapping[str, Truth], runs: Sequence[Run], count: int, *, distinct: bool
) -> NDArray[np.float64]:
    """Shape (tasks, measures), means over seeds, in the order of ``truths``."""
    standings: dict[str, list[tuple[float, ...]]] = {task: [] for task in truths}
    for run in runs:
        standing = after(truths[run.task], run, count, distinct=distinct)
        standings[run.task].append(astuple(standing))
    return np.array([np.mean(own, axis=0) for own in standings.values()])
