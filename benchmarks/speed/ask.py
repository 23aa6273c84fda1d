"""How long a sampler takes to ask for a configuration: ours beside Optuna's TPE and GP.

An ask is study.ask() and suggest() of every name; telling the outcome is not counted. The space is
the paper's 99 configurations, alone or times 3, 11 or 102 learning rates, every name categorical.
Every study holds the same 10, 30 or 100 finished trials, in memory or in SQLite (a temporary file,
its trials read once, as by a worker that has been running). Ours learned from 20 synthetic past
tasks, or from none ("cold-start"); learning is not counted.

Before timing, what is asked for must be a configuration of the space, and ours must ask for the
same one in both storages. Then all take turns, each in a fresh copy of the study: at most 30 in
memory and 10 in SQLite, fewer once a limit of time is used up, but 3 in any case. Reported are
medians over turns, of the time and of its ratio to TPE's in the same turn: in memory of the
processor's time on one thread, in SQLite of the clock's, most of which goes into commits to the
disk: the JSON tells how long a single one takes there.

    python -m benchmarks.speed.ask [--quick]
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.turns import process, ratio, take_turns
from benchmarks.speed.new_task import RANK, SEED, TASKS, TPE, NewTask
from optuna_peppp import ConfigurationSpace

LEARNING_RATES: Final = (1, 3, 11, 102)
"""Of spaces of 99, 297, 1,089 and 10,098 configurations."""

TRIALS: Final = (10, 30, 100)
TURNS: Final = {"memory": 30, "sqlite": 10}
CLOCKS: Final = {"memory": time.process_time, "sqlite": time.perf_counter}
LIMIT: Final = 8.0
"""Seconds for the turns of one space, number of trials and storage, of which there are 24."""

DIRECTIONS: Final = ("minimize", "minimize")
PLACES: Final = {"memory": "in memory", "sqlite": "SQLite"}
OURS: Final = ("bayesian", "cold-start", "ed-mf", "qr-mf")
SAMPLERS: Final = {
    "bayesian": ("ours, Bayesian", "#D55E00", "-"),
    "cold-start": ("ours, no past tasks", "#D55E00", ":"),
    "ed-mf": ("ours, ED-MF", "#E69F00", "-"),
    "qr-mf": ("ours, QR-MF", "#E69F00", ":"),
    TPE: ("TPE, multivariate", "0.2", "-"),
    "gp": ("GP", "0.6", "-"),
}
"""Label, color and style of everybody."""

Fresh = Callable[[BaseSampler], AbstractContextManager[optuna.Study]]
"""Opens a fresh copy of a study for a sampler."""


@contextmanager
def in_memory(trials: Sequence[FrozenTrial], sampler: BaseSampler) -> Iterator[optuna.Study]:
    """A fresh study that holds the trials."""
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    study.add_trials(trials)
    yield study


@contextmanager
def in_sqlite(database: Path, sampler: BaseSampler) -> Iterator[optuna.Study]:
    """The study in a copy of the database, its trials read once."""
    with TemporaryDirectory() as folder, opened(Path(shutil.copy(database, folder))) as storage:
        study = optuna.load_study(study_name=None, storage=storage, sampler=sampler)
        study.get_trials()
        yield study


@contextmanager
def opened(database: Path) -> Iterator[RDBStorage]:
    """A SQLite storage, closed in the end."""
    storage = RDBStorage(f"sqlite:///{database}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def ask(
    fresh: Fresh,
    sampler: BaseSampler,
    space: ConfigurationSpace,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, int]:
    """Seconds of one ask in a fresh study, and the configuration that was asked for.

    Raises:
        ValueError: It is not one of the space.
    """
    with fresh(sampler) as study:
        begin = clock()
        params = space.suggest(study.ask())
        return clock() - begin, space.index(params)


def check(asked: Mapping[str, Mapping[str, int]]) -> None:
    """Refuses to time what depends on the storage; ``asked`` is by storage and sampler.

    Raises:
        RuntimeError: One of ours asked for different ones.
    """
    for name in OURS:
        choices = {storage: by_sampler[name] for storage, by_sampler in asked.items()}
        if len(set(choices.values())) > 1:
            raise RuntimeError(f"{name} asks for different configurations: {choices}")


def measure(task: NewTask, count: int, limit: float) -> list[Row]:
    """A row a storage and sampler, after so many trials; no turn begins after ``limit`` seconds."""
    trials, space, rows = task.trials(count), task.meta.space, list[Row]()
    with TemporaryDirectory() as folder:
        database = Path(folder) / "study.db"
        with opened(database) as storage:
            optuna.create_study(directions=DIRECTIONS, storage=storage).add_trials(trials)
        studies: dict[str, Fresh] = {
            "memory": partial(in_memory, trials),
            "sqlite": partial(in_sqlite, database),
        }
        # Optuna's samplers remember the study, which has another number in every storage.
        calls = {
            place: {
                name: partial(ask, fresh, sampler, space, CLOCKS[place])
                for name, sampler in task.samplers().items()
            }
            for place, fresh in studies.items()
        }
        check({p: {name: call()[1] for name, call in own.items()} for p, own in calls.items()})
        for place, own in calls.items():
            turns = take_turns(own, TURNS[place], seed=SEED, limit=limit, least=3)
            seconds = {name: [taken for taken, _ in asks] for name, asks in turns.items()}
            rows += [
                {
                    "sampler": name,
                    "configurations": len(space),
                    "trials": count,
                    "storage": place,
                    "milliseconds": 1e3 * float(np.median(taken)),
                    "repeats": len(taken),
                    "ratio_to_tpe": ratio(taken, seconds[TPE]),
                }
                for name, taken in seconds.items()
            ]
    return rows


def measure_all(learning_rates: int, counts: Sequence[int], limit: float) -> list[Row]:
    """As :func:`measure`, of a space, after each of several numbers of trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task = NewTask.of(learning_rates)
    return [row for count in counts for row in measure(task, count, limit)]


def commit_milliseconds() -> float:
    """Median time of a commit to a SQLite file where studies are kept here."""
    taken = []
    with TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/test.db")) as file:
        file.execute("CREATE TABLE numbers (number INTEGER)")
        for number in range(TURNS["memory"]):
            begin = time.perf_counter()
            file.execute("INSERT INTO numbers VALUES (?)", (number,))
            file.commit()
            taken.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(taken))


def table(rows: Sequence[Row]) -> str:
    """Markdown: milliseconds, and in brackets the ratio to TPE's."""
    lines: dict[tuple[str, int, int], dict[str, str]] = {}
    for row in rows:
        studied = str(row["storage"]), int(row["configurations"]), int(row["trials"])
        times, ratios = (_figures(float(row[key])) for key in ("milliseconds", "ratio_to_tpe"))
        lines.setdefault(studied, {})[str(row["sampler"])] = f"{times} ({ratios})"
    cells = [["storage", "configurations", "trials", *(label for label, *_ in SAMPLERS.values())]]
    for (storage, d, count), line in sorted(lines.items()):
        cells.append([PLACES[storage], f"{d:,}", str(count), *(line[name] for name in SAMPLERS)])
    return markdown(cells)


def _figures(value: float) -> str:
    """A positive number with two decimals, or fewer where it is large."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def draw(rows: Sequence[Row], results: Results) -> None:
    """Time over configurations; a row of panels a storage, a column a number of trials."""
    from benchmarks.harness import looks

    counts = sorted({int(row["trials"]) for row in rows})
    sizes = sorted({int(row["configurations"]) for row in rows})
    size = (3.2 * len(counts), 6.5)
    figure, panels = looks.panels(2, len(counts), figsize=size, sharex=True, sharey=True)
    for (storage, count), axes in zip(product(PLACES, counts), panels.flat, strict=True):
        own = [row for row in rows if (row["storage"], row["trials"]) == (storage, count)]
        for name, (label, color, style) in SAMPLERS.items():
            times = [row["milliseconds"] for row in own if row["sampler"] == name]
            axes.plot(sizes, times, style, color=color, marker="o", markersize=3, label=label)
        axes.set(title=f"{PLACES[storage]}, {count} trials")
        looks.logarithmic(axes, ticks=sizes)
        axes.grid(alpha=0.3)
    figure.supxlabel("configurations")
    figure.supylabel("time per ask (ms)")
    looks.legend(figure, panels[0, 0], columns=len(SAMPLERS))
    results.picture(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes, draws, prints."""
    options = script.parser(__doc__, "the smallest space, few turns").parse_args(argv)
    results = Results(script.folder(options, "speed"), "ask")
    full = LEARNING_RATES, TRIALS, LIMIT
    spaces, counts, limit = ((1,), (30,), 0.0) if options.quick else full
    rows: list[Row] = []
    for learning_rates in spaces:
        # In a process of its own, which begins with one thread.
        with process() as pool:
            rows += pool.apply(measure_all, (learning_rates, counts, limit))
        print(f"{rows[-1]['configurations']:,} configurations measured", flush=True)
    results.table(rows)
    settings = {"threads": 1, "seed": SEED, "past_tasks": TASKS, "rank": RANK}
    commit = commit_milliseconds()
    results.record({**settings, "seconds_limit": limit, "sqlite_commit_milliseconds": commit})
    draw(rows, results)
    print(table(rows))


if __name__ == "__main__":
    main()
