"""Tables: CSV in and out, Markdown, means and their standard errors."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

Row = dict[str, str | int | float]
Rows = list[dict[str, str]]
"""Rows as a file has them, all text."""


def text(rows: Sequence[Mapping[str, object]], *, header: bool = True) -> str:
    """CSV with the columns of the first row; a cell that a later row lacks is empty."""
    target = io.StringIO(newline="")
    writer = csv.DictWriter(target, list(rows[0]), restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return target.getvalue()


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes rows, at least one, as CSV; whoever reads meanwhile sees the old file."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text(rows), encoding="utf-8", newline="")
    temporary.replace(path)


def read(path: Path) -> Rows:
    """The rows of a CSV; none where there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def grouped(rows: Rows, column: str) -> dict[str, Rows]:
    """The rows by the text of one column, in order of appearance."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def markdown(lines: Iterable[Sequence[str]]) -> str:
    r"""A Markdown table of lines of cells, the header first.

    >>> print(markdown([["a", "b"], ["1 | 2", ""]]))
    | a | b |
    | --- | --- |
    | 1 \| 2 |  |
    """
    header, *body = lines
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
        for line in (header, ["---"] * len(header), *body)
    )


def six_digits(row: Mapping[str, object]) -> dict[str, object]:
    """A row with its floats as text of six digits."""
    return {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Mean and its standard error, NaN for a single value.

    >>> mean_and_error([1.0, 3.0])
    (2.0, 1.0)
    """
    array = np.asarray(values, dtype=np.float64)
    error = array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else np.nan
    return float(array.mean()), float(error)
