"""Tables in and out: CSV as rows of text, Markdown, the words for names and shares."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

Rows = list[dict[str, str]]


def read(folder: Path, name: str, part: str = "") -> Rows:
    """The rows of one table; none where there is no such file."""
    path = folder / f"{name}{'_' * bool(part)}{part}.csv"
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


def spoken(name: str) -> str:
    """A tuned name as it is read: ``format_a`` is Format A."""
    words = {"format_a": "Format A", "format_b": "Format B"}
    return words.get(name, name.replace("_", " "))


def percent(share: str | float) -> str:
    """A share with two digits after the point."""
    return f"{100 * float(share):.2f}%"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    ]
