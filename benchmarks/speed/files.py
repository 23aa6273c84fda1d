"""The files that the benchmarks of speed write."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from environment import describe

RESULTS: Final = Path(__file__).parents[1] / "results" / "speed"

Row = dict[str, str | int | float]
Facts = dict[str, str | int | float]


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Writes a CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_facts(facts: Mapping[str, object], path: Path) -> None:
    """Writes a JSON file of versions, hardware and these."""
    path.write_text(json.dumps({**describe(), **facts}, indent=2) + "\n")


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table of a header and lines."""
    header, *lines = cells
    every = (header, ["---"] * len(header), *lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in every)
