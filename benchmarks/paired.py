"""Comparisons on the same tasks: every task in a worker, means and their standard errors, files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from environment import describe
from numpy.typing import NDArray
from tqdm import tqdm

from optuna_peppp.processes import worker_pool

T = TypeVar("T")
Row = dict[str, str | int | float]


def run(outcomes: Callable[[int], list[T]], rows: Sequence[int], jobs: int) -> list[T]:
    """The outcomes of all tasks, one after another; ``outcomes`` travels once to every worker."""
    found: list[T] = []
    with worker_pool(jobs, _set_up, outcomes) as pool:
        for future in tqdm([pool.submit(_outcomes, row) for row in rows], unit="task"):
            found += future.result()
    return found


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean over tasks."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def write(folder: Path, stem: str, rows: Sequence[Row], facts: dict[str, str | int]) -> None:
    """STEM.csv, a row each, and STEM.json with the facts, versions and hardware."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{stem}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    content = {"corpus": stem, **facts, **describe()}
    (folder / f"{stem}.json").write_text(json.dumps(content, indent=2) + "\n")


_worker: Callable[[int], list[Any]]


def _set_up(outcomes: Callable[[int], list[Any]]) -> None:
    global _worker
    _worker = outcomes


def _outcomes(row: int) -> list[Any]:
    return _worker(row)
