"""The error matrix: tasks by configurations, in and out of CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from os import PathLike
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optuna_peppp.formats import FloatFormat
from optuna_peppp.space import FORMAT_NAMES, ConfigurationSpace, Value

_REQUIRED: Final = ("task", "error", "memory")
_RESERVED: Final = ("task", "model", "error", "memory")


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
            if name in _RESERVED or name in self.space.names:
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
        table = _Table.read(Path(path))
        if space is None:
            space = table.space()
        with _located(path, 1):
            missing = [name for name in space.names if name not in table.names]
            if missing:
                raise ValueError(
                    f"the header must name what the space tunes, {', '.join(space.names)}; "
                    f"missing {', '.join(missing)}"
                )
        tasks: dict[tuple[str, str], int] = {}
        repeats: dict[tuple[int, int], list[_Row]] = {}
        for row in table.rows:
            with _located(path, row.line):
                column = space.index(
                    {name: _choice(row.texts[name], space.choices[name]) for name in space.names}
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


class _Row(NamedTuple):
    """One measurement of a corpus."""

    line: int
    task: str
    model: str
    texts: dict[str, str]
    """The text of every configuration column, formats in their one spelling."""
    error: float
    memory: float


@dataclass(frozen=True, slots=True)
class _Table:
    """A corpus as it stands in its file; at least one row."""

    path: Path
    names: list[str]
    """The configuration columns."""
    has_models: bool
    rows: list[_Row]

    @classmethod
    def read(cls, path: Path) -> Self:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                lines = [(reader.line_num, fields) for fields in reader if fields]
            except (csv.Error, UnicodeDecodeError) as problem:
                raise ValueError(
                    f"{path}, line {reader.line_num + 1}: not CSV in UTF-8 ({problem})"
                ) from None
        with _located(path, 1):
            if not lines:
                raise ValueError(
                    "the file is empty; expected the header "
                    "task,model,format_a,format_b,learning_rate,error,memory"
                )
            header = [name.strip() for name in lines[0][1]]
            missing = [name for name in _REQUIRED if name not in header]
            if missing:
                raise ValueError(
                    f"the header must name {', '.join(_REQUIRED)}; missing {', '.join(missing)}"
                )
            for position, name in enumerate(header):
                if not name or name in header[:position]:
                    raise ValueError(
                        f"column {position + 1} must have a name of its own; got {name!r}"
                    )
            if len(lines) == 1:
                raise ValueError("the file holds no measurement after its header")
        names = [name for name in header[: header.index("memory")] if name not in _RESERVED]
        rows: list[_Row] = []
        for line, fields in lines[1:]:
            with _located(path, line):
                if len(fields) != len(header):
                    raise ValueError(
                        f"expected {len(header)} fields, as in the header; got {len(fields)}"
                    )
                row = dict(zip(header, fields, strict=True))
                rows.append(
                    _Row(
                        line,
                        row["task"],
                        row.get("model", ""),
                        {name: _spelling(name, row[name]) for name in names},
                        _error(row["error"]),
                        _memory(row["memory"]),
                    )
                )
        return cls(path, names, "model" in header, rows)

    def space(self) -> ConfigurationSpace:
        """What varies, and the formats, in canonical order."""
        choices: dict[str, list[Value]] = {}
        for name in self.names:
            values = _values(row.texts[name] for row in self.rows)
            if name in FORMAT_NAMES:
                choices[name] = sorted(values, key=lambda value: FloatFormat.parse(str(value)))
            elif len(values) > 1:
                choices[name] = values
        with _located(self.path, 1):
            if not choices:
                raise ValueError(
                    "a column between task and error must take more than one value; "
                    "pass the space to read a corpus of one configuration"
                )
        return ConfigurationSpace(choices)

    def setting(self, name: str) -> Value:
        """The one value of a column that is not tuned."""
        first = self.rows[0].texts[name]
        for row in self.rows:
            with _located(self.path, row.line):
                if row.texts[name] != first and len(_values((first, row.texts[name]))) > 1:
                    raise ValueError(
                        f"{name} is {row.texts[name]!r} here and {first!r} before; put {name} "
                        "into the space or keep one value"
                    )
        return _values((first,))[0]


@contextmanager
def _located(path: str | PathLike[str], line: int) -> Iterator[None]:
    """Puts path and line in front of the message of a ``ValueError``."""
    try:
        yield
    except ValueError as problem:
        raise ValueError(f"{path}, line {line}: {problem}") from None


def _values(texts: Iterable[str]) -> list[Value]:
    """The distinct values of a column: numbers ascending, other text by first appearance."""
    distinct = list(dict.fromkeys(texts))
    for kind in (int, float):
        try:
            numbers = {kind(text) for text in distinct}
        except ValueError:
            continue
        if all(-math.inf < number < math.inf for number in numbers):
            return sorted(numbers)
    return [*distinct]


def _choice(text: str, choices: Sequence[Value]) -> Value:
    """The choice that ``text`` spells; a value that is no choice where it spells none."""
    return text if text in choices else _values((text,))[0]


def _spelling(name: str, text: str) -> str:
    return str(FloatFormat.parse(text)) if name in FORMAT_NAMES else text


def _error(text: str) -> float:
    error = _number("error", text)
    if not 0 <= error <= 1:
        raise ValueError(f"error must lie in [0, 1]; got {text!r}")
    return error


def _memory(text: str) -> float:
    """Bytes; NaN, unknown, where the field is empty."""
    if not text.strip():
        return math.nan
    memory = _number("memory", text)
    if not 0 < memory < math.inf:
        raise ValueError(f"memory must be a positive number of bytes; got {text!r}")
    return memory


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number; got {text!r}") from None
