"""A corpus file as it stands: CSV, one row a measurement, read and checked line by line."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final, NamedTuple, Self

from optuna_peppp.formats import FloatFormat
from optuna_peppp.space import FORMAT_NAMES, ConfigurationSpace, Value

_REQUIRED: Final = ("task", "error", "memory")
RESERVED: Final = ("task", "model", "error", "memory")
"""Columns that are neither a choice nor a setting."""


class Row(NamedTuple):
    """One measurement of a corpus.

    Attributes:
        line: Where it stands in the file.
        task: The data set.
        model: The network, empty where it is not told.
        texts: The text of every configuration column, formats in their one spelling.
        error: Test error in [0, 1].
        memory: Bytes, NaN where unknown.
    """

    line: int
    task: str
    model: str
    texts: dict[str, str]
    error: float
    memory: float


@dataclass(frozen=True, slots=True)
class CorpusTable:
    """A corpus as it stands in its file.

    Attributes:
        path: The file.
        names: The configuration columns.
        has_models: Whether there is a column ``model``.
        rows: The measurements, at least one.
    """

    path: Path
    names: list[str]
    has_models: bool
    rows: list[Row]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads and checks a CSV file in UTF-8.

        Raises:
            ValueError: The file cannot be read as a corpus; the message names path and line.
            FileNotFoundError: There is no such file.
        """
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                lines = [(reader.line_num, fields) for fields in reader if fields]
            except (csv.Error, UnicodeDecodeError) as problem:
                raise ValueError(
                    f"{path}, line {reader.line_num + 1}: not CSV in UTF-8 ({problem})"
                ) from None
        with located(path, 1):
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
        names = [name for name in header[: header.index("memory")] if name not in RESERVED]
        rows: list[Row] = []
        for line, fields in lines[1:]:
            with located(path, line):
                if len(fields) != len(header):
                    raise ValueError(
                        f"expected {len(header)} fields, as in the header; got {len(fields)}"
                    )
                row = dict(zip(header, fields, strict=True))
                rows.append(
                    Row(
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
        with located(self.path, 1):
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
            with located(self.path, row.line):
                if row.texts[name] != first and len(_values((first, row.texts[name]))) > 1:
                    raise ValueError(
                        f"{name} is {row.texts[name]!r} here and {first!r} before; put {name} "
                        "into the space or keep one value"
                    )
        return _values((first,))[0]


@contextmanager
def located(path: str | PathLike[str], line: int) -> Iterator[None]:
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


def choice(text: str, choices: Sequence[Value]) -> Value:
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
