"""The comparison: what is run on which tasks, and what is written about it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from benchmarks.harness import tasks
from benchmarks.harness.script import Results
from benchmarks.harness.tables import six_digits
from benchmarks.samplers import records, report
from benchmarks.samplers.contestants import CONTESTANTS
from benchmarks.samplers.measures import Truth
from benchmarks.samplers.runs import BUDGETS, Run, measure, name_of, new_task
from benchmarks.samplers.summary import efforts, summarize
from optuna_peppp import ErrorMatrix

RIVALS = ("optuna-integration", "botorch", "gpytorch")


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run on one task: its row, and pairs of samplers and seeds."""

    row: int
    pairs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What is compared: the rows of new tasks in a corpus, with the folder of their runs."""

    matrix: ErrorMatrix
    corpus: str
    rows: Sequence[int]
    seeds: range
    trials: int
    results: Results
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
            missing = tuple(pair for pair in pairs if (task, *pair) not in done)
            if missing:
                jobs.append(Job(row, missing))
        return jobs

    def run(self, jobs: Sequence[Job], processes: int) -> None:
        """Runs the jobs, showing progress on standard error; every finished job is kept."""
        if not jobs:
            return
        check(self.matrix, self.rows[0])
        for _, runs in tasks.each(Runner(self.matrix, self.trials), jobs, processes):
            for run in runs:
                records.append(self._file(run.sampler), self.corpus, run)

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
        self.results.table(list(map(six_digits, summaries)))
        self.results.table(list(map(six_digits, needs)), "effort")
        stem, configurations = self.results.stem, len(self.matrix.space)
        title = f"{stem}: {len(truths)} tasks x {configurations} configurations"
        self.results.picture(report.draw(summaries, title))
        facts: dict[str, object] = {
            "corpus": stem,
            "fingerprint": self.corpus,
            "tasks": list(truths),
        }
        facts |= {"configurations": configurations, "trials": self.trials, "threads": 1}
        facts |= {"seeds": list(self.seeds), "samplers": list(runs)}
        self.results.record(facts, RIVALS)
        print(f"{title}, seeds {list(self.seeds)}, {self.trials} trials a run\n")
        print("\n\n".join(report.tables(summaries, needs)))

    def _finished(self, truths: Mapping[str, Truth]) -> dict[str, list[Run]]:
        """The runs of all samplers that have all of them."""
        runs, wanted = {}, len(truths) * len(self.seeds)
        for sampler in CONTESTANTS:
            found = records.read(self._file(sampler), self.corpus, self.trials)
            own = [run for run in found if run.task in truths and run.seed in self.seeds]
            if len(own) == wanted:
                # In the order of tasks and seeds, whoever was finished first.
                own.sort(key=lambda run: (list(truths).index(run.task), run.seed))
                runs[sampler] = own
            elif own:
                there = f"{len(own)} of {wanted} runs are there"
                print(f"{sampler}: left out of the summary, {there}", file=sys.stderr)
        if not runs:
            raise ValueError(f"no sampler has all runs in {self.runs}; name some in --samplers")
        return runs

    def _file(self, sampler: str) -> Path:
        return self.runs / f"{sampler}.csv"


@dataclass(frozen=True, eq=False)
class Runner:
    """Makes the runs of a job; what they learn from the other tasks they share."""

    matrix: ErrorMatrix
    trials: int

    def __call__(self, job: Job) -> list[Run]:
        """The runs."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        task = new_task(self.matrix, job.row)
        return [measure(s, CONTESTANTS[s], task, self.trials, seed) for s, seed in job.pairs]


def check(matrix: ErrorMatrix, row: int) -> None:
    """Whoever measures everything must have no regret.

    Raises:
        RuntimeError: Somebody has.
    """
    run = Runner(matrix, len(matrix.space))(Job(row, (("brute-force", 0),)))[0]
    standing = Truth(matrix.memory[row], matrix.errors[row]).standing(run.indices)
    if (standing.hypervolume_regret, standing.cap_regret) != (0, 0):
        raise RuntimeError(f"with everything measured, brute force has {standing} on {run.task}")
