"""A corpus file as it stands: CSV, one row a measurement, read and checked line by line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final, NamedTuple, Self

from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.configurations.hardware import FORMAT_NAMES, RECIPE_NAMES, in_order
from optuna_peppp.configurations.space import ConfigurationSpace, Value
from optuna_peppp.corpora.csvfile import check_text, located, read_lines, write_lines
from optuna_peppp.corpora.fields import (
    check_task,
    choice,
    distinct_values,
    parse_error,
    parse_memory,
    spelling,
)
from optuna_peppp.corpora.measurements import disagree
from optuna_peppp.text import quoted

_REQUIRED: Final = ("task", "error", "memory")
RESERVED: Final = ("task", "model", "error", "memory")
"""Columns that are neither a choice nor a setting."""

_CONFIGURATIONS: Final = 10_000
_CONFIGURATIONS_A_ROW: Final = 10
"""A corpus may always make so many configurations, and so many for every row: with more, hardly
any was measured, and a column is no choice but something that was noted."""

_ENTRIES: Final = 10_000_000
_ENTRIES_A_ROW: Final = 100
"""Tasks by configurations may always be so many, and so many for every row."""

_COLUMNS: Final = 1000
"""A corpus has no more columns before ``memory``."""

_NAMED: Final = 20
"""Columns that a message names."""


def columns_of(
    names: Iterable[str], *, model: bool = True, more: Iterable[str] = ()
) -> tuple[str, ...]:
    """The columns of a corpus file, in their order.

    Args:
        names: The configuration columns: what is tuned, and settings.
        model: Whether networks are told.
        more: Further columns, such as how each row was measured.

    >>> columns_of(["format_a", "format_b"], more=["seed"])
    ('task', 'model', 'format_a', 'format_b', 'error', 'memory', 'seed')
    """
    return ("task", *(("model",) if model else ()), *names, "error", "memory", *more)


def write_rows(
    path: str | PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, object]]
) -> None:
    """Writes a corpus file, which appears whole or not at all.

    Args:
        path: The file.
        columns: Its columns, as :func:`columns_of` orders them.
        rows: The fields of every measurement; what a row lacks stays empty.

    Raises:
        ValueError: A field would be taken for a formula by a spreadsheet.
    """
    write_lines(path, columns, ([row.get(name, "") for name in columns] for row in rows))


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
        lines = read_lines(path)
        with located(path, lines[0].number if lines else 1):
            if not lines:
                raise ValueError(
                    "the file is empty; expected the header "
                    + ",".join(columns_of(("format_a", "format_b", "learning_rate")))
                )
            header = lines[0].fields
            _check_header(header)
            if len(lines) == 1:
                raise ValueError("the file holds no measurement after its header")
            names = [name for name in header[: header.index("memory")] if name not in RESERVED]
            if len(names) > _COLUMNS:
                raise ValueError(
                    f"it has {len(names):,} columns before memory, where choices and settings "
                    f"stand, {_COLUMNS:,} at most; move what is not tuned behind memory"
                )
        rows: list[Row] = []
        for line, texts in lines[1:]:
            with located(path, line):
                if len(texts) != len(header):
                    raise ValueError(
                        f"expected {len(header)} fields, as in the header; got {len(texts)}"
                    )
                fields = dict(zip(header, texts, strict=True))
                fields.update({name: spelling(name, fields[name]) for name in names})
                check_task(fields["task"], fields.get("model", ""))
                rows.append(
                    Row(
                        path,
                        line,
                        fields,
                        parse_error(fields["error"]),
                        parse_memory(fields["memory"]),
                    )
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
                    f"files; {first.rows[0].path} has {', '.join(first.names[:_NAMED])}, "
                    f"{table.rows[0].path} has {', '.join(table.names[:_NAMED])}. Add the missing "
                    "columns"
                )
        everywhere = dict.fromkeys(name for table in tables for name in table.columns)
        before = columns_of(first.names, model="model" in everywhere)
        columns = list(dict.fromkeys([*before, *everywhere]))
        rows: dict[tuple[str, ...], Row] = {}
        for row in (row for table in tables for row in table.rows):
            rows.setdefault(tuple(row.fields.get(name, "") for name in columns), row)
        return cls(columns, first.names, list(rows.values()))

    def write(self, path: Path) -> None:
        """Writes the corpus; see :func:`write_rows`."""
        write_rows(path, self.columns, (row.fields for row in self.rows))

    def entries(self, space: ConfigurationSpace) -> dict[tuple[str, str, int], list[Row]]:
        """The measurements of every task, model and configuration, in order of appearance.

        Raises:
            ValueError: A row is outside ``space``, tasks and configurations are far more than was
                measured, or repeats disagree too much to be averaged.
        """
        entries: dict[tuple[str, str, int], list[Row]] = {}
        for row in self.rows:
            with located(row.path, row.line):
                index = space.index(
                    {name: choice(row.fields[name], space.choices[name]) for name in space.names}
                )
            entries.setdefault((row.task, row.model, index), []).append(row)
        tasks = {(task, model) for task, model, _ in entries}
        if len(tasks) * len(space) > max(_ENTRIES, _ENTRIES_A_ROW * len(self.rows)):
            raise ValueError(
                f"{self.rows[0].path}: its {len(tasks):,} tasks under {len(space):,} "
                f"configurations are far more than its {len(self.rows):,} rows measure; move what "
                "is not tuned behind memory, and name in task nothing but data sets"
            )
        for repeats in (rows for rows in entries.values() if len(rows) > 1):
            if disagree([row.error for row in repeats]):
                low, high = (pick(repeats, key=lambda row: row.error) for pick in (min, max))
                raise ValueError(
                    f"{high.path}, line {high.line}: error {high.error} is too far from "
                    f"{low.error} in {low.path}, line {low.line}, for repeats of one "
                    "configuration on one task, which are averaged; remove what is wrong, or tell "
                    "them apart by a column before error"
                )
        return entries

    def space(self) -> ConfigurationSpace:
        """What varies, and the formats, in canonical order.

        Raises:
            ValueError: Nothing varies, or the columns cannot all be choices: they make far more
                configurations than there are measurements.
        """
        choices: dict[str, list[Value]] = {}
        for name in self.names:
            values = distinct_values(row.fields[name] for row in self.rows)
            if name in FORMAT_NAMES:
                choices[name] = sorted(values, key=lambda value: FloatFormat.parse(str(value)))
            elif len(values) > 1 or name in RECIPE_NAMES:
                choices[name] = in_order(name, values)
        with located(self.rows[0].path, 1):
            if not choices:
                raise ValueError(
                    "a column between task and error must take more than one value; "
                    "pass the space to read a corpus of one configuration"
                )
            count = math.prod(len(values) for values in choices.values())
            if count > max(_CONFIGURATIONS, _CONFIGURATIONS_A_ROW * len(self.rows)):
                shown = f"{count:,}" if count < 10**15 else f"10^{math.log10(count):.0f}"
                raise ValueError(
                    f"its columns before memory make {shown} configurations of "
                    f"{len(self.rows):,} rows; move what is not tuned behind memory"
                )
        return ConfigurationSpace(choices)

    def setting(self, name: str) -> Value:
        """The one value of a column that is not tuned.

        Raises:
            ValueError: It takes several.
        """
        first = self.rows[0].fields[name]
        if len(distinct_values(row.fields[name] for row in self.rows)) > 1:
            row = next(r for r in self.rows if len(distinct_values((first, r.fields[name]))) > 1)
            with located(row.path, row.line):
                raise ValueError(
                    f"{name} is {quoted(row.fields[name])} here and {quoted(first)} before; put "
                    f"{name} into the space or keep one value"
                )
        return distinct_values((first,))[0]


def _check_header(header: Sequence[str]) -> None:
    """Refuses names of columns that make no corpus."""
    seen: set[str] = set()
    for position, name in enumerate(header, start=1):
        if not name or name in seen:
            raise ValueError(f"column {position} must have a name of its own; got {quoted(name)}")
        check_text(f"the name of column {position}", name)
        seen.add(name)
    missing = [name for name in _REQUIRED if name not in seen]
    if missing:
        raise ValueError(
            f"the header must name {', '.join(_REQUIRED)}; missing {', '.join(missing)}"
        )
