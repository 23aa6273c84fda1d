"""What the runs say together: means over tasks, and differences from the best built-in sampler.

Seeds are averaged within a task first; standard errors are over tasks. The best built-in is the
one with the lowest mean of that measure after that many measurements: chosen with hindsight, in
its favour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Final

import numpy as np
from contestants import CONTESTANTS, BuiltIn
from measures import SHARES, Standing, Truth, after
from numpy.typing import NDArray
from runs import Run

COUNTED: Final = ("trials", "distinct")
"""What counts as a measurement: every trial, or different configurations only."""

MEASURES: Final = tuple(field.name for field in fields(Standing))


@dataclass(frozen=True, slots=True)
class Summary:
    """One measure of one sampler.

    Attributes:
        sampler: Name of the sampler.
        counted: What counts as a measurement, of ``COUNTED``.
        measurements: After how many.
        measure: Of ``MEASURES``.
        tasks: How many tasks the mean is over.
        mean: Over tasks.
        standard_error: Of the mean; NaN for one task.
        best_built_in: Name of the built-in sampler with the lowest mean; empty if none took part.
        difference: Mean less that of the best built-in.
        difference_standard_error: Paired over tasks.
        ratio: Mean divided by that of the best built-in; NaN where that is 0.
    """

    sampler: str
    counted: str
    measurements: int
    measure: str
    tasks: int
    mean: float
    standard_error: float
    best_built_in: str
    difference: float
    difference_standard_error: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Effort:
    """What a sampler needed.

    Attributes:
        sampler: Name of the sampler.
        runs: How many.
        trials: In each.
        distinct: Mean number of different configurations in a run.
        share: Of the true hypervolume.
        reached: Share of the runs that reached it.
        median_trials: Trials until then, infinite where most runs did not.
        median_milliseconds: Processor time of a trial.
        mean_milliseconds: Processor time of a trial.
    """

    sampler: str
    runs: int
    trials: int
    distinct: float
    share: float
    reached: float
    median_trials: float
    median_milliseconds: float
    mean_milliseconds: float


def summarize(
    truths: Mapping[str, Truth], runs: Mapping[str, Sequence[Run]], budgets: Sequence[int]
) -> list[Summary]:
    """The means of every sampler, in the order of ``runs``.

    Args:
        truths: By task.
        runs: By sampler, all on the same tasks and seeds.
        budgets: After how many measurements.
    """
    rows = []
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
                ratio = mean / other.mean() if other.mean() else math.nan
                rows.append(
                    Summary(
                        sampler,
                        counted,
                        count,
                        measure,
                        len(own),
                        mean,
                        error,
                        best,
                        difference,
                        difference_error,
                        float(ratio),
                    )
                )
    return rows


def efforts(truths: Mapping[str, Truth], runs: Mapping[str, Sequence[Run]]) -> list[Effort]:
    """What every sampler needed: a row a share of the hypervolume."""
    rows = []
    for sampler, own in runs.items():
        milliseconds = np.concatenate([run.milliseconds for run in own])
        for share in SHARES:
            needed = np.array([truths[run.task].reached(run.indices, share) for run in own])
            rows.append(
                Effort(
                    sampler,
                    len(own),
                    max(len(run.indices) for run in own),
                    float(np.mean([len(set(run.indices)) for run in own])),
                    share,
                    float(np.isfinite(needed).mean()),
                    median(needed),
                    float(np.median(milliseconds)),
                    float(milliseconds.mean()),
                )
            )
    return rows


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and its standard error, NaN for a single value."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


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
    standings: dict[str, list[list[float]]] = {task: [] for task in truths}
    for run in runs:
        standing = after(truths[run.task], run, count, distinct=distinct)
        standings[run.task].append(list(asdict(standing).values()))
    return np.array([np.mean(own, axis=0) for own in standings.values()])
