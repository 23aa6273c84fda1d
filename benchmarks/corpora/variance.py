"""What moves the error within a task: main effects, their interaction, noise of the seed.

Notation: a task has d errors, one a configuration, and the configurations are a full product of
the tuned names. The sum of squares around the task's mean is that of every name's level means
(its main effect) plus the rest (the interaction of all names, which holds most of the noise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optuna_peppp import ConfigurationSpace
from optuna_peppp.corpora.table import CorpusTable, Row

SETTINGS: Final = ("epochs", "rounding", "batch_size", "image_size")
"""Columns that must agree between two measurements of one entry for the seed to be what differs."""

INTERACTION: Final = "interaction"

_DRAWS: Final = 10_000
_LEVEL: Final = 0.95


def sums_of_squares(
    space: ConfigurationSpace, errors: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Sums of squares (n,) of every name's main effect and of the interaction, task by task.

    Of errors (n, d), none missing. They add up to that around each task's mean.
    """
    shape = [len(values) for values in space.choices.values()]
    centered = errors - errors.mean(axis=1, keepdims=True)
    product = centered.reshape(len(errors), *shape)
    sums = {}
    for axis, name in enumerate(space.names, start=1):
        others = tuple(other for other in range(1, product.ndim) if other != axis)
        levels = product.mean(axis=others)
        sums[name] = (levels**2).sum(axis=1) * (len(space) / shape[axis - 1])
    sums[INTERACTION] = (centered**2).sum(axis=1) - sum(sums.values())
    return sums


def degrees_of_freedom(space: ConfigurationSpace) -> dict[str, int]:
    """Of every main effect and of the interaction; they add up to d - 1."""
    degrees = {name: len(values) - 1 for name, values in space.choices.items()}
    return degrees | {INTERACTION: len(space) - 1 - sum(degrees.values())}


@dataclass(frozen=True, slots=True)
class Noise:
    """The variance of a measurement over seeds: unbiased, with its 95% bootstrap interval."""

    entries: int
    variance: float
    low: float
    high: float

    @classmethod
    def of(cls, groups: list[list[float]]) -> Noise:
        """The variance within groups: the errors of every entry, one a seed, two at least.

        The interval is of percentiles, entries resampled.
        """
        squares = np.array([np.var(group) * len(group) for group in groups])
        degrees = np.array([len(group) - 1 for group in groups])
        drawn = np.random.default_rng(0).integers(len(groups), size=(_DRAWS, len(groups)))
        resampled = squares[drawn].sum(axis=1) / degrees[drawn].sum(axis=1)
        low, high = np.quantile(resampled, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        return cls(len(groups), float(squares.sum() / degrees.sum()), float(low), float(high))


def repeated(
    corpus: CorpusTable, repeats: CorpusTable, space: ConfigurationSpace
) -> list[list[float]]:
    """The errors of every entry that was measured again: the corpus' first, then the others.

    Raises:
        ValueError: A repeat is of no entry of the corpus, has the seed of another measurement of
            its entry or other settings, or the corpus itself holds an entry twice.
    """
    for name in ("seed", *SETTINGS):
        for table in (corpus, repeats):
            if name not in table.columns:
                raise ValueError(
                    f"{table.rows[0].path}, line 1: repeats are known by their seed and must "
                    f"share {', '.join(SETTINGS)}; the column {name} is missing"
                )
    known = corpus.entries(space)
    groups = []
    for key, rows in repeats.entries(space).items():
        first = known.get(key, [])
        if len(first) != 1:
            raise ValueError(
                f"{_place(rows[0])}: a repeat must be of an entry that the corpus holds once; it "
                f"holds this one {len(first)} times"
            )
        _check_settings(first[0], rows, [name for name in corpus.names if name not in space.names])
        seeds = [row.fields["seed"] for row in (*first, *rows)]
        if len(set(seeds)) < len(seeds):
            raise ValueError(
                f"{_place(rows[0])}: every measurement of an entry must have a seed of its own; "
                f"got {', '.join(seeds)}"
            )
        groups.append([row.error for row in (*first, *rows)])
    return groups


def _check_settings(first: Row, rows: list[Row], constant: list[str]) -> None:
    for row in rows:
        for name in (*SETTINGS, *constant):
            if row.fields[name] != first.fields[name]:
                raise ValueError(
                    f"{_place(row)}: {name} is {row.fields[name]} here and {first.fields[name]} "
                    "in the corpus; a repeat differs in nothing but its seed"
                )


def _place(row: Row) -> str:
    return f"{row.path}, line {row.line}"
