"""The comparison: what is run on which tasks, and what is written about it."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import records
import report
from contestants import CONTESTANTS, version_of
from environment import describe
from measures import Truth
from runs import BUDGETS, Run, measure, name_of, new_task
from summary import efforts, summarize
from tqdm import tqdm

from optuna_peppp import ErrorMatrix
from optuna_peppp.processes import worker_pool


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run on one task.

    Attributes:
        row: The task's.
        trials: In every run.
        pairs: Samplers and seeds.
    """

    row: int
    trials: int
    pairs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What is compared and where it is written.

    Attributes:
        matrix: The corpus.
        corpus: Its fingerprint.
        rows: Rows of the new tasks.
        seeds: Runs on every task.
        trials: In every run.
        output: Folder of the results.
        stem: Of their names.
        runs: Folder of the runs.
    """

    matrix: ErrorMatrix
    corpus: str
    rows: Sequence[int]
    seeds: range
    trials: int
    output: Path
    stem: str
    runs: Path

    def pending(self, samplers: Sequence[str]) -> list[Job]:
        """What remains to be run; what is left of broken runs is removed.

        Raises:
            ValueError: A sampler's file cannot be continued.
        """
        done = set()
        for sampler in samplers:
            found = records.read(self._file(sampler), self.corpus, self.trials)
            records.write(self._file(sampler), self.corpus, found)
            done |= {(run.task, run.sampler, run.seed) for run in found}
        jobs = []
        for row in self.rows:
            task = name_of(self.matrix, row)
            pairs = [(s, seed) for s in samplers for seed in self.seeds]
            missing_pairs = tuple(pair for pair in pairs if (task, *pair) not in done)
            if missing_pairs:
                jobs.append(Job(row, self.trials, missing_pairs))
        return jobs

    def run(self, jobs: Sequence[Job], processes: int) -> None:
        """Runs the jobs, showing progress on standard error; every finished run is kept."""
        if not jobs:
            return
        check(self.matrix, self.rows[0])
        with tqdm(total=sum(len(job.pairs) for job in jobs), unit="run") as bar:
            for run in make_all(self.matrix, jobs, processes):
                records.append(self._file(run.sampler), self.corpus, run)
                bar.update()

    def summarize(self) -> None:
        """Writes, draws and prints what the runs say.

        Raises:
            ValueError: No sampler has all runs.
        """
        errors, memory = self.matrix.errors, self.matrix.memory
        truths = {name_of(self.matrix, row): Truth(memory[row], errors[row]) for row in self.rows}
        runs = self._finished(truths)
        summaries = summarize(truths, runs, [count for count in BUDGETS if count <= self.trials])
        needs = efforts(truths, runs)
        path = self.output / self.stem
        write_table(path.with_name(f"{self.stem}.csv"), summaries)
        write_table(path.with_name(f"{self.stem}_effort.csv"), needs)
        title = f"{self.stem}: {len(truths)} tasks x {len(self.matrix.space)} configurations"
        report.draw(summaries, title, path.with_name(f"{self.stem}.png"))
        record = {
            "corpus": self.stem,
            "fingerprint": self.corpus,
            "tasks": list(truths),
            "configurations": len(self.matrix.space),
            "trials": self.trials,
            "seeds": list(self.seeds),
            "samplers": list(runs),
            "threads": 1,
            **describe(),
            **{name: version_of(name) for name in ("optuna-integration", "botorch", "gpytorch")},
        }
        path.with_name(f"{self.stem}.json").write_text(json.dumps(record, indent=2) + "\n")
        print(f"{title}, seeds {list(self.seeds)}, {self.trials} trials a run\n")
        print("\n\n".join(report.tables(summaries, needs)))

    def _finished(self, truths: Mapping[str, Truth]) -> dict[str, list[Run]]:
        """The runs of all samplers that have all of them."""
        runs = {}
        wanted = len(truths) * len(self.seeds)
        for sampler in CONTESTANTS:
            own = [
                run
                for run in records.read(self._file(sampler), self.corpus, self.trials)
                if run.task in truths and run.seed in self.seeds
            ]
            if len(own) == wanted:
                runs[sampler] = own
            elif own:
                print(
                    f"{sampler}: left out of the summary, {len(own)} of {wanted} runs are there",
                    file=sys.stderr,
                )
        if not runs:
            raise ValueError(f"no sampler has all runs in {self.runs}; name some in --samplers")
        return runs

    def _file(self, sampler: str) -> Path:
        return self.runs / f"{sampler}.csv"


def make(matrix: ErrorMatrix, job: Job) -> Iterator[Run]:
    """The runs of a job; what they learn from the other tasks they share."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task = new_task(matrix, job.row)
    for sampler, seed in job.pairs:
        yield measure(sampler, CONTESTANTS[sampler], task, job.trials, seed)


def make_all(matrix: ErrorMatrix, jobs: Sequence[Job], processes: int) -> Iterator[Run]:
    """The runs of all jobs, as they are finished."""
    if processes == 1:
        for job in jobs:
            yield from make(matrix, job)
        return
    with worker_pool(processes, _set_up, matrix) as pool:
        for future in as_completed([pool.submit(_make, job) for job in jobs]):
            yield from future.result()


def check(matrix: ErrorMatrix, row: int) -> None:
    """Whoever measures everything must have no regret.

    Raises:
        RuntimeError: Somebody has.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task = new_task(matrix, row)
    run = measure("brute-force", CONTESTANTS["brute-force"], task, len(task.space), 0)
    standing = Truth(task.memory, task.errors).standing(run.indices)
    if (standing.hypervolume_regret, standing.cap_regret) != (0, 0):
        raise RuntimeError(f"with everything measured, brute force has {standing} on {task.name}")


def write_table(path: Path, rows: Sequence[Any]) -> None:
    """Writes records of one class as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, asdict(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            values = asdict(row)
            writer.writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()}
            )


_matrix: ErrorMatrix
"""The corpus of a worker process."""


def _set_up(matrix: ErrorMatrix) -> None:
    global _matrix
    _matrix = matrix
    os.environ["OMP_NUM_THREADS"] = "1"  # Torch reads it; the pool has shared out the cores.


def _make(job: Job) -> list[Run]:
    return list(make(_matrix, job))
