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

from optuna_peppp.archive import replacing
from optuna_peppp.formats import FloatFormat
from optuna_peppp.space import FORMAT_NAMES, ConfigurationSpace, Value

_REQUIRED: Final = ("task", "error", "memory")
RESERVED: Final = ("task", "model", "error", "memory")
"""Columns that are neither a choice nor a setting."""

MAX_DISAGREEMENT: Final = 0.5
"""How far errors of one task and configuration may lie apart to be repeats, and be averaged."""


class Row(NamedTuple):
    """One measurement of a corpus.

    Attributes:
        path: The file it stands in.
        line: Where it stands there.
        fields: The text of every column, formats in their one spelling.
        error: Test error in [0, 1].
        memory: Bytes, NaN where unknown.
    """

    path: Path
    line: int
    fields: dict[str, str]
    error: float
    memory: float

    @property
    def task(self) -> str:
        """The data set."""
        return self.fields["task"]

    @property
    def model(self) -> str:
        """The network, empty where it is not told."""
        return self.fields.get("model", "")


@dataclass(frozen=True, slots=True)
class CorpusTable:
    """A corpus as it stands in its file, or in several.

    Attributes:
        columns: The names of all columns.
        names: The configuration columns: what stands before ``memory`` and is none of
            ``RESERVED``.
        rows: The measurements, at least one.
    """

    columns: list[str]
    names: list[str]
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
        for line, texts in lines[1:]:
            with located(path, line):
                if len(texts) != len(header):
                    raise ValueError(
                        f"expected {len(header)} fields, as in the header; got {len(texts)}"
                    )
                fields = dict(zip(header, texts, strict=True))
                fields.update({name: _spelling(name, fields[name]) for name in names})
                rows.append(
                    Row(path, line, fields, _error(fields["error"]), _memory(fields["memory"]))
                )
        return cls(header, names, rows)

    @classmethod
    def merged(cls, tables: Sequence[Self]) -> Self:
        """The rows of all tables, of equal rows the first.

        The columns after ``memory``, and ``model``, are those of all tables, empty where a
        table lacks them.

        Raises:
            ValueError: The configuration columns are not the same.
        """
        first = tables[0]
        for table in tables[1:]:
            if set(table.names) != set(first.names):
                raise ValueError(
                    f"the configuration columns, those before memory, must be the same in all "
                    f"files; {first.rows[0].path} has {', '.join(first.names)}, "
                    f"{table.rows[0].path} has {', '.join(table.names)}. Add the missing columns"
                )
        everywhere = dict.fromkeys(name for table in tables for name in table.columns)
        before = ["task", *(["model"] if "model" in everywhere else []), *first.names]
        further = [name for name in everywhere if name not in (*RESERVED, *first.names)]
        columns = [*before, "error", "memory", *further]
        rows: dict[tuple[str, ...], Row] = {}
        for row in (row for table in tables for row in table.rows):
            rows.setdefault(tuple(row.fields.get(name, "") for name in columns), row)
        return cls(columns, first.names, list(rows.values()))

    def write(self, path: Path) -> None:
        """Writes a corpus file, which appears whole or not at all."""
        with (
            replacing(path) as temporary,
            temporary.open("x", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, self.columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(row.fields for row in self.rows)

    def entries(self, space: ConfigurationSpace) -> dict[tuple[str, str, int], list[Row]]:
        """The measurements of every task, model and configuration, in order of appearance.

        Raises:
            ValueError: A row is outside ``space``, or repeats disagree too much to be averaged.
        """
        entries: dict[tuple[str, str, int], list[Row]] = {}
        for row in self.rows:
            with located(row.path, row.line):
                index = space.index(
                    {name: choice(row.fields[name], space.choices[name]) for name in space.names}
                )
            entries.setdefault((row.task, row.model, index), []).append(row)
        for repeats in entries.values():
            low, high = (pick(repeats, key=lambda row: row.error) for pick in (min, max))
            if high.error - low.error > MAX_DISAGREEMENT:
                raise ValueError(
                    f"{high.path}, line {high.line}: error {high.error} is too far from "
                    f"{low.error} in {low.path}, line {low.line}, for repeats of one "
                    "configuration on one task, which are averaged; remove what is wrong, or tell "
                    "them apart by a column before error"
                )
        return entries

    def space(self) -> ConfigurationSpace:
        """What varies, and the formats, in canonical order."""
        choices: dict[str, list[Value]] = {}
        for name in self.names:
            values = _values(row.fields[name] for row in self.rows)
            if name in FORMAT_NAMES:
                choices[name] = sorted(values, key=lambda value: FloatFormat.parse(str(value)))
            elif len(values) > 1:
                choices[name] = values
        with located(self.rows[0].path, 1):
            if not choices:
                raise ValueError(
                    "a column between task and error must take more than one value; "
                    "pass the space to read a corpus of one configuration"
                )
        return ConfigurationSpace(choices)

    def setting(self, name: str) -> Value:
        """The one value of a column that is not tuned."""
        first = self.rows[0].fields[name]
        for row in self.rows:
            with located(row.path, row.line):
                if row.fields[name] != first and len(_values((first, row.fields[name]))) > 1:
                    raise ValueError(
                        f"{name} is {row.fields[name]!r} here and {first!r} before; put {name} "
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
