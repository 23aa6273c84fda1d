"""The error matrix: tasks by configurations, in and out of CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.arrays import read_only, refuse
from optuna_peppp.configurations.space import ConfigurationSpace, Value
from optuna_peppp.corpora.csvfile import check_text, located
from optuna_peppp.corpora.fields import check_choice, check_task
from optuna_peppp.corpora.measurements import (
    DISAGREEMENT,
    check_errors,
    disagree,
    mean_of_known,
    means_of_known,
)
from optuna_peppp.corpora.table import RESERVED, CorpusTable, columns_of, write_rows


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
        errors = read_only("errors", self.errors, shape)
        memory = read_only("memory", self.memory, shape)
        check_errors(errors, partial=True)
        refuse(
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

    @property
    def labels(self) -> tuple[str, ...]:
        """What the n tasks are called: with their networks where there are several."""
        if len(set(self.models)) < 2:
            return self.tasks
        return tuple(
            f"{task} ({model})" for task, model in zip(self.tasks, self.models, strict=True)
        )

    def rows(self, indices: ArrayLike) -> Self:
        """The matrix of some of the tasks.

        Args:
            indices: Shape (m,), rows in any order; or shape (n,), true for those to take.
        """
        taken = np.arange(len(self.tasks))[np.asarray(indices)]
        return replace(
            self,
            tasks=tuple(self.tasks[row] for row in taken),
            errors=self.errors[taken],
            memory=self.memory[taken],
            models=tuple(self.models[row] for row in taken) if self.models else (),
        )

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
        return cls.from_table(CorpusTable.read(Path(path)), space)

    @classmethod
    def from_table(cls, table: CorpusTable, space: ConfigurationSpace | None = None) -> Self:
        """The matrix of a corpus that was read already; see :meth:`read_csv`."""
        if space is None:
            space = table.space()
        with located(table.rows[0].path, 1):
            missing = [name for name in space.names if name not in table.names]
            if missing:
                raise ValueError(
                    f"the header must name what the space tunes, {', '.join(space.names)}; "
                    f"missing {', '.join(missing)}"
                )
        entries = table.entries(space)
        tasks: dict[tuple[str, str], int] = {}
        for task, model, _ in entries:
            tasks.setdefault((task, model), len(tasks))
        errors = np.full((len(tasks), len(space)), np.nan)
        memory = errors.copy()
        for (task, model, column), rows in entries.items():
            entry = tasks[task, model], column
            errors[entry] = mean_of_known(row.error for row in rows)
            memory[entry] = mean_of_known(row.memory for row in rows)
        return cls(
            space,
            tuple(task for task, _ in tasks),
            errors,
            memory,
            tuple(model for _, model in tasks) if "model" in table.columns else (),
            {name: table.setting(name) for name in table.names if name not in space.names},
        )

    def write_csv(self, path: str | PathLike[str]) -> None:
        """Writes the corpus: one row per observed entry, settings as constant columns.

        :meth:`read_csv` with the same ``space`` gives the observed entries back exactly. The file
        appears whole or not at all.

        Raises:
            ValueError: A name or a text among the choices is one that :meth:`read_csv` refuses.
        """
        columns = {**self.space.choices, **{name: (v,) for name, v in self.settings.items()}}
        for name, values in columns.items():
            check_text("the name of a column", name)
            for value in values:
                if isinstance(value, str):
                    check_choice(name, value)
        for task, model in zip(self.tasks, self.models or repeat(""), strict=False):
            check_task(task, model)
        write_rows(path, columns_of(columns, model=bool(self.models)), self._fields())

    def _fields(self) -> Iterator[dict[str, Any]]:
        """The fields of every observed entry."""
        for row, column in np.argwhere(self.observed).tolist():
            memory = float(self.memory[row, column])
            yield {
                "task": self.tasks[row],
                "model": self.models[row] if self.models else "",
                **self.space.params(column),
                **self.settings,
                "error": float(self.errors[row, column]),
                "memory": "" if np.isnan(memory) else memory,
            }


def stack(matrices: Sequence[ErrorMatrix]) -> ErrorMatrix:
    """The tasks of all matrices in one matrix, in the space of the first.

    A task that several matrices hold with the same model is one row; entries that several
    measured are averaged. Settings that differ are dropped.

    Raises:
        ValueError: The matrices tune other names or choices (their order does not matter), or
            disagree about an entry by more than repeats may.
    """
    space = matrices[0].space
    for number, matrix in enumerate(matrices, start=1):
        if _unordered(matrix.space) != _unordered(space):
            raise ValueError(
                f"all sources must tune the same names and choices; source 1 tunes "
                f"{space.choices}, source {number} tunes {matrix.space.choices}. `optuna-peppp "
                "corpus merge` makes one corpus of files that differ"
            )
    orders = [[m.space.index(space.params(j)) for j in range(len(space))] for m in matrices]
    errors, memory = (
        np.concatenate([array[:, order] for array, order in zip(arrays, orders, strict=True)])
        for arrays in ([m.errors for m in matrices], [m.memory for m in matrices])
    )
    rows: dict[tuple[str, str], list[int]] = {}
    keys = (key for m in matrices for key in zip(m.tasks, m.models or repeat(""), strict=False))
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    for (task, model), same in rows.items():
        for index in np.flatnonzero(disagree(errors[same]))[:1].tolist():
            raise ValueError(
                f"the sources must agree within {DISAGREEMENT} about what they both measured; "
                f"of task {task!r}{f' with {model!r}' if model else ''}, configuration "
                f"{space.params(index)}, the errors are {errors[same, index]}. Leave one out or "
                "rename the task"
            )
    models = tuple(model for _, model in rows)
    return ErrorMatrix(
        space,
        tuple(task for task, _ in rows),
        np.array([means_of_known(errors[same]) for same in rows.values()]),
        np.array([means_of_known(memory[same]) for same in rows.values()]),
        models if any(models) else (),
        {
            name: value
            for name, value in matrices[0].settings.items()
            if all(matrix.settings.get(name) == value for matrix in matrices)
        },
    )


def _unordered(space: ConfigurationSpace) -> dict[str, frozenset[Value]]:
    return {name: frozenset(values) for name, values in space.choices.items()}
