"""How long an ask takes after ten thousand trials, and among a million configurations.

As benchmarks.speed.ask, beside TPE in the same turns, in memory, on one thread, of the processor's
time, each in a fresh copy of the study:

- 10,000 finished trials among 10,098 configurations, by ours that learned from 20 past tasks;
- 30 finished trials among 1,000,000 configurations, by ours without past tasks; and the prediction
  of all of them, whose largest arrays are made block by block.

    python -m benchmarks.speed.large [--quick]
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import optuna
from optuna.samplers import BaseSampler, TPESampler

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.turns import process, ratio, take_turns
from benchmarks.speed.ask import ask, in_memory
from benchmarks.speed.new_task import SEED, TPE, NewTask
from optuna_peppp import ConfigurationSpace, MetaModel, PEPPPSampler, predict

TURNS: Final = 7
MANY_TRIALS: Final = (102, 10_000)
"""Learning rates, which times 99 are configurations, and trials."""

MANY_CONFIGURATIONS: Final = (100, 100, 100)
"""Choices of three names."""

TRIALS: Final = 30


def many_trials(learning_rates: int, count: int, turns: int) -> list[Row]:
    """Asks after so many trials."""
    task = NewTask.of(learning_rates)
    samplers = task.samplers()
    ours = {"bayesian": samplers["bayesian"], TPE: samplers[TPE]}
    return rows_of(task, ours, count, turns)


def many_configurations(choices: Sequence[int], turns: int) -> list[Row]:
    """Asks among so many configurations, and their prediction."""
    space = ConfigurationSpace({f"name {i}": range(size) for i, size in enumerate(choices)})
    generator = np.random.default_rng(SEED)
    memory, errors = (
        generator.uniform(1e6, 1e7, len(space)),
        generator.uniform(0.2, 0.6, len(space)),
    )
    meta = MetaModel.cold(space)
    task = NewTask(memory, errors, meta)
    ours: dict[str, BaseSampler] = {
        "cold-start": PEPPPSampler(meta, memory, seed=SEED),
        TPE: TPESampler(multivariate=True, seed=SEED),
    }
    rows = rows_of(task, ours, TRIALS, turns)
    with in_memory(task.trials(TRIALS), ours["cold-start"]) as study:
        begin = time.process_time()
        predict(study, meta, memory).recommend()
        taken = 1e3 * (time.process_time() - begin)
    return [*rows, row("prediction", len(space), TRIALS, taken, 1, float("nan"))]


def rows_of(task: NewTask, samplers: dict[str, BaseSampler], count: int, turns: int) -> list[Row]:
    """A row a sampler."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, fresh = task.meta.space, partial(in_memory, task.trials(count))
    calls = {
        name: partial(ask, fresh, sampler, space, time.process_time)
        for name, sampler in samplers.items()
    }
    found = take_turns(calls, turns, seed=SEED)
    seconds = {name: [taken for taken, _ in asks] for name, asks in found.items()}
    return [
        row(
            name,
            len(space),
            count,
            1e3 * float(np.median(taken)),
            turns,
            ratio(taken, seconds[TPE]),
        )
        for name, taken in seconds.items()
    ]


def row(
    name: str, configurations: int, trials: int, milliseconds: float, turns: int, of_tpe: float
) -> Row:
    """One of the table."""
    return {
        "sampler": name,
        "configurations": configurations,
        "trials": trials,
        "milliseconds": milliseconds,
        "repeats": turns,
        "ratio_to_tpe": of_tpe,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    cells = [["configurations", "trials", "", "milliseconds", "times TPE", "peak memory"]]
    for found in rows:
        cells.append(
            [
                f"{found['configurations']:,}",
                f"{found['trials']:,}",
                str(found["sampler"]),
                f"{float(found['milliseconds']):.0f}",
                f"{float(found['ratio_to_tpe']):.2f}",
                f"{float(found['peak_mb']):.0f} MB",
            ]
        )
    return markdown(cells)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes, prints."""
    options = script.parser(__doc__, "a hundredth of both").parse_args(argv)
    results = Results(script.folder(options, "speed"), "large")
    trials = (1, 100) if options.quick else MANY_TRIALS
    choices = (10, 10, 100) if options.quick else MANY_CONFIGURATIONS
    turns = 2 if options.quick else TURNS
    with process() as pool:
        rows = pool.apply(many_trials, (*trials, turns))
    with process() as pool:
        rows += pool.apply(many_configurations, (choices, turns))
    results.table(rows)
    results.record({"threads": 1, "seed": SEED})
    print(table(rows))


if __name__ == "__main__":
    main()
