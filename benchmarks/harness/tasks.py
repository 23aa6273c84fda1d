"""Every task of a corpus in turn as the new one: in workers, and with means paired over tasks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from benchmarks.harness.tables import Row, mean_and_error
from benchmarks.harness.turns import THREADS
from optuna_peppp.corpora.catalog import read_corpus
from optuna_peppp.corpora.matrix import ErrorMatrix
from optuna_peppp.processes import worker_pool

T = TypeVar("T")
Item = TypeVar("Item")
Key = tuple[Any, ...]


def add_corpus(parser: argparse.ArgumentParser, default: str = "plain3-cifar100") -> None:
    """Adds --corpus and --jobs."""
    parser.add_argument("--corpus", default=default, help="a corpus that ships, or a CSV file")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")


def corpus(parser: argparse.ArgumentParser, name: str) -> ErrorMatrix:
    """The corpus of that name or file; ends the program with the reason where there is none."""
    try:
        return read_corpus(name)
    except (OSError, ValueError) as problem:
        parser.error(f"--corpus: {problem}")


def complete_rows(matrix: ErrorMatrix) -> list[int]:
    """Rows of which everything is known, the truth included: those that can be new tasks."""
    rows: list[int] = np.flatnonzero(~np.isnan(matrix.errors + matrix.memory).any(axis=1)).tolist()
    return rows


def rows_of(matrix: ErrorMatrix, rows: Sequence[int]) -> ErrorMatrix:
    """Some tasks of a matrix, as they were measured; its settings are left out."""
    return ErrorMatrix(
        matrix.space,
        tuple(matrix.tasks[row] for row in rows),
        matrix.errors[list(rows)],
        matrix.memory[list(rows)],
        tuple(matrix.models[row] for row in rows) if matrix.models else (),
    )


def each(
    work: Callable[[Item], T], items: Iterable[Item], jobs: int, unit: str = "task"
) -> Iterator[tuple[Item, T]]:
    """What every item gives, as it is finished, by processes of one thread each.

    ``work`` travels once to every process. Where it raises, so does this.
    """
    os.environ |= dict.fromkeys(THREADS, "1")
    with worker_pool(jobs, _set_up, work) as pool:
        waiting = {pool.submit(_work, item): item for item in items}
        for future in tqdm(as_completed(waiting), total=len(waiting), unit=unit):
            yield waiting[future], future.result()


def over_tasks(outcomes: Callable[[int], list[T]], rows: Sequence[int], jobs: int) -> list[T]:
    """The outcomes of all tasks, one after another."""
    found = dict(each(outcomes, rows, jobs))
    return [outcome for row in rows for outcome in found[row]]


def paired(
    values: Mapping[Key, Mapping[str, float]],
    rivals: Callable[[Key], Iterable[tuple[str, Key]]],
) -> Iterator[tuple[Key, Row]]:
    """Means over tasks with standard errors, and paired differences to rivals.

    Args:
        values: By what was done, then by task.
        rivals: Names of its differences, and keys of what is subtracted where there is any.
    """
    for key, own in values.items():
        mean, error = mean_and_error(list(own.values()))
        row: Row = {"tasks": len(own), "mean": mean, "standard_error": error}
        for name, rival in rivals(key):
            if rival in values:
                away = [own[task] - values[rival][task] for task in own]
                row[name], row[f"{name}_standard_error"] = mean_and_error(away)
        yield key, row


_worker: Callable[[Any], Any]


def _set_up(work: Callable[[Any], Any]) -> None:
    global _worker
    _worker = work


def _work(item: Any) -> Any:
    return _worker(item)
