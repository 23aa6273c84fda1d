"""Files of runs: a file a sampler, a row a trial, appended run by run.

A file says what was measured but not what came out, which the corpus knows. Only one process may
run a sampler on a corpus; others may read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks.harness import tables
from benchmarks.samplers.runs import Run
from optuna_peppp import ErrorMatrix

COLUMNS: Final = ("corpus", "task", "sampler", "seed", "trial", "index", "milliseconds", "frontier")


def fingerprint(matrix: ErrorMatrix) -> str:
    """Eight characters that change with anything in a corpus."""
    digest = hashlib.sha256(repr((matrix.space, matrix.tasks, matrix.models)).encode())
    digest.update(matrix.errors.tobytes() + matrix.memory.tobytes())
    return digest.hexdigest()[:8]


def read(path: Path, corpus: str, trials: int) -> list[Run]:
    """The runs of a file that have at least so many trials; none where there is no file.

    A run that was being written when the process was killed, or is just being written, has
    fewer. ``corpus`` is the fingerprint.

    Raises:
        ValueError: The file holds something else, or runs on another corpus.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    groups: dict[tuple[str, str, int], list[dict[str, str]]] = {}
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if tuple(row) != COLUMNS or None in row.values():
            raise ValueError(f"{where}: columns must be {','.join(COLUMNS)}; remove the file")
        if row["corpus"] != corpus:
            raise ValueError(
                f"{where}: the run is on corpus {row['corpus']}, this one is {corpus}; remove the "
                "file, or choose another --output"
            )
        groups.setdefault((row["task"], row["sampler"], int(row["seed"])), []).append(row)
    return [
        Run(
            *key,
            tuple(int(row["index"]) for row in rows),
            tuple(float(row["milliseconds"]) for row in rows),
            {
                count: tuple(map(int, row["frontier"].split()))
                for count, row in enumerate(rows, start=1)
                if row["frontier"]
            },
        )
        for key, rows in groups.items()
        if len(rows) >= trials
    ]


def write(path: Path, corpus: str, runs: Iterable[Run]) -> None:
    """Makes a file hold exactly these runs."""
    rows = [row for run in runs for row in _rows(corpus, run)]
    if rows:
        tables.write(path, rows)
    else:
        path.unlink(missing_ok=True)


def append(path: Path, corpus: str, run: Run) -> None:
    """Adds a run to a file; it is on disk when this returns."""
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(tables.text(_rows(corpus, run), header=not file.tell()))
        file.flush()
        os.fsync(file.fileno())


def _rows(corpus: str, run: Run) -> list[dict[str, object]]:
    rows = []
    trials = zip(run.indices, run.milliseconds, strict=True)
    for count, (index, milliseconds) in enumerate(trials, start=1):
        frontier = " ".join(map(str, run.frontiers.get(count, ())))
        cells = corpus, run.task, run.sampler, run.seed, count, index, f"{milliseconds:.3f}"
        rows.append(dict(zip(COLUMNS, (*cells, frontier), strict=True)))
    return rows
