"""The error matrix: tasks by configurations, in and out of CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from os import PathLike
from pathlib import Path
from statistics import fmean
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.space import ConfigurationSpace, Value
from optuna_peppp.table import RESERVED, CorpusTable, Row, choice, located


@dataclass(frozen=True, slots=True, eq=False)
class ErrorMatrix:
    """What was measured: a row a task, a column a configuration.

    Attributes:
        space: The d configurations.
        tasks: Names of the n tasks.
        errors: Shape (n, d), test errors in [0, 1]; NaN where unobserved. Read-only.
        memory: Shape (n, d), bytes; NaN where unknown. Read-only.
        models: The network of every task, or empty.
        settings: What all measurements share, such as ``{"learning_rate": 0.001}``.

    Raises:
        ValueError: A shape, an error, a memory, a repeated task or the name of a setting.
    """

    space: ConfigurationSpace
    tasks: tuple[str, ...]
    errors: NDArray[np.float64]
    memory: NDArray[np.float64]
    models: tuple[str, ...] = ()
    settings: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tasks, models, settings = tuple(self.tasks), tuple(self.models), dict(self.settings)
        if models and len(models) != len(tasks):
            raise ValueError(
                f"models must be empty or name one network per task, {len(tasks)}; "
                f"got {len(models)}"
            )
        keys = list(zip(tasks, models or tasks, strict=True))
        if len(set(keys)) < len(keys):
            task, model = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(
                f"tasks must be unique, with their models; {task!r} "
                f"{f'with {model!r} ' if models else ''}is there twice"
            )
        for name in settings:
            if name in RESERVED or name in self.space.names:
                raise ValueError(f"settings must not hold {name!r}, which has a column of its own")
        shape = (len(tasks), len(self.space))
        errors = _array("errors", self.errors, shape)
        memory = _array("memory", self.memory, shape)
        _refuse(
            "errors must lie in [0, 1], the ratio of misclassified images; errors",
            errors,
            (errors < 0) | (errors > 1),
        )
        _refuse(
            "memory must be positive and finite, in bytes; memory",
            memory,
            (memory <= 0) | np.isinf(memory),
        )
        for name, value in (
            ("tasks", tasks),
            ("errors", errors),
            ("memory", memory),
            ("models", models),
            ("settings", settings),
        ):
            object.__setattr__(self, name, value)

    @property
    def observed(self) -> NDArray[np.bool_]:
        """Shape (n, d), true where an error was measured."""
        return ~np.isnan(self.errors)

    @classmethod
    def read_csv(cls, path: str | PathLike[str], space: ConfigurationSpace | None = None) -> Self:
        """Reads a corpus: one row a measurement, repeated measurements averaged.

        The header is ``task,model,NAMES...,error,memory`` with any further columns, which are
        ignored; ``model`` may be missing, and an empty ``memory`` is unknown.

        Args:
            path: A CSV file in UTF-8.
            space: The configurations. By default what the file holds: every name with more
                than one value, and the formats, is tuned; formats are ordered by exponent and
                mantissa, numbers ascending, other text by first appearance. What is not tuned
                must not vary and becomes a setting.

        Raises:
            ValueError: The file cannot be read as such; the message names path and line.
            FileNotFoundError: There is no such file.
        """
        table = CorpusTable.read(Path(path))
        if space is None:
            space = table.space()
        with located(path, 1):
            missing = [name for name in space.names if name not in table.names]
            if missing:
                raise ValueError(
                    f"the header must name what the space tunes, {', '.join(space.names)}; "
                    f"missing {', '.join(missing)}"
                )
        tasks: dict[tuple[str, str], int] = {}
        repeats: dict[tuple[int, int], list[Row]] = {}
        for row in table.rows:
            with located(path, row.line):
                column = space.index(
                    {name: choice(row.texts[name], space.choices[name]) for name in space.names}
                )
            task = tasks.setdefault((row.task, row.model), len(tasks))
            repeats.setdefault((task, column), []).append(row)
        errors = np.full((len(tasks), len(space)), np.nan)
        memory = errors.copy()
        for entry, rows in repeats.items():
            errors[entry] = fmean(row.error for row in rows)
            known = [row.memory for row in rows if not math.isnan(row.memory)]
            memory[entry] = fmean(known) if known else math.nan
        return cls(
            space,
            tuple(task for task, _ in tasks),
            errors,
            memory,
            tuple(model for _, model in tasks) if table.has_models else (),
            {name: table.setting(name) for name in table.names if name not in space.names},
        )

    def write_csv(self, path: str | PathLike[str]) -> None:
        """Writes the corpus: one row per observed entry, settings as constant columns.

        :meth:`read_csv` with the same ``space`` gives the observed entries back exactly.
        """
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            model_column = ["model"] if self.models else []
            writer.writerow(
                ["task", *model_column, *self.space.names, *self.settings, "error", "memory"]
            )
            for row, column in np.argwhere(self.observed).tolist():
                memory = float(self.memory[row, column])
                writer.writerow(
                    [
                        self.tasks[row],
                        *([self.models[row]] if self.models else []),
                        *self.space.params(column).values(),
                        *self.settings.values(),
                        float(self.errors[row, column]),
                        "" if np.isnan(memory) else memory,
                    ]
                )


def load_corpus(name: str) -> ErrorMatrix:
    """A corpus that ships with the package.

    Raises:
        ValueError: No corpus of that name ships; the message lists those that do.
    """
    folder = resources.files("optuna_peppp").joinpath("corpora")
    shipped = {
        entry.name.removesuffix(".csv"): entry
        for entry in (folder.iterdir() if folder.is_dir() else ())
        if entry.name.endswith(".csv")
    }
    if name not in shipped:
        raise ValueError(
            f"name must be a corpus that ships ({', '.join(sorted(shipped)) or 'none does'}); "
            f"got {name!r}. ErrorMatrix.read_csv reads a file of your own"
        )
    with resources.as_file(shipped[name]) as path:
        return ErrorMatrix.read_csv(path)


def _array(name: str, values: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A read-only copy."""
    array = np.array(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape}, one row per task and one column per configuration "
            f"of space; got {array.shape}"
        )
    array.flags.writeable = False
    return array


def _refuse(message: str, array: NDArray[np.float64], bad: NDArray[np.bool_]) -> None:
    """Raises ``message`` with the first bad entry, if there is any."""
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(f"{message}[{row}, {column}] is {array[row, column]}")
