"""How long MetaModel.fit takes on large error matrices, and learning from many stored studies.

Matrices are synthetic: log odds of rank 5 with main effects and noise, of which 10% are observed,
each task and each configuration somewhere. Every size is fitted in a process of its own, on one
thread, for its peak memory (interpreter and data included).

Studies are kept in a SQLite file, each of 12 measurements of the paper's 99 configurations; reading
them is what `optuna-peppp fit --storage` does before it fits.

Seconds are the processor's; the clock's are beside them.

    python -m benchmarks.speed.fit [--quick]
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import optuna
import sqlalchemy
from numpy.typing import NDArray
from optuna.storages import RDBStorage
from optuna.trial import create_trial
from scipy.special import expit

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.turns import process
from optuna_peppp import ConfigurationSpace, ErrorMatrix, MetaModel, error_matrix_from_studies
from optuna_peppp.studies.results import space_of
from optuna_peppp.studies.storage import load_studies

SIZES: Final = ((87, 99), (100, 1000), (250, 1000), (1000, 1000))
STUDIES: Final = 500
MEASURED: Final = 12
OBSERVED: Final = 0.1
RANK: Final = 5
SEED: Final = 0


def errors_of(tasks: int, configurations: int) -> NDArray[np.float64]:
    """Shape (tasks, configurations), NaN = unobserved."""
    generator = np.random.default_rng(SEED)
    shape = tasks, configurations
    latent = generator.standard_normal((tasks, RANK)) @ generator.standard_normal(
        (RANK, configurations)
    )
    log_odds = 0.4 * latent - 1 + 0.5 * generator.standard_normal(configurations)
    log_odds = log_odds + 0.5 * generator.standard_normal((tasks, 1))
    errors = expit(log_odds + 0.1 * generator.standard_normal(shape))
    observed = generator.random(shape) < OBSERVED
    rows, columns = np.arange(tasks), np.arange(configurations)
    observed[rows, rows % configurations] = observed[columns % tasks, columns] = True
    return np.where(observed, errors, np.nan)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    begin, clock = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - begin, time.perf_counter() - clock


def row(step: str, tasks: int, configurations: int, taken: tuple[float, float]) -> Row:
    """One of the table."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {
        "step": step,
        "tasks": tasks,
        "configurations": configurations,
        "processor_seconds": taken[0],
        "clock_seconds": taken[1],
        "peak_mb": peak,
    }


def fit(tasks: int, configurations: int) -> list[Row]:
    """A fit to a matrix of this size."""
    space = ConfigurationSpace({"configuration": range(configurations)})
    errors = errors_of(tasks, configurations)
    names = tuple(f"task {number}" for number in range(tasks))
    matrix = ErrorMatrix(space, names, errors, np.ones_like(errors))
    return [row("fit", tasks, configurations, timed(partial(MetaModel.fit, matrix)))]


def learn_from_studies(database: str, studies: int) -> list[Row]:
    """Reading stored studies, and the fit to them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: list[ErrorMatrix] = []

    def read() -> None:
        loaded = load_studies(f"sqlite:///{database}")
        found.append(error_matrix_from_studies(loaded, space_of(loaded)))

    reading = row("read studies", studies, 99, timed(read))
    return [reading, row("fit studies", studies, 99, timed(partial(MetaModel.fit, found[0])))]


def unsafe(connection: Any, _: object) -> None:
    """What is written for a benchmark need not survive a power failure."""
    connection.execute("PRAGMA synchronous = OFF")


def store(database: Path, studies: int) -> None:
    """Writes studies of random configurations."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, storage = ConfigurationSpace.paper(), RDBStorage(f"sqlite:///{database}")
    sqlalchemy.event.listen(storage.engine, "connect", unsafe)
    storage.engine.dispose()
    generator = np.random.default_rng(SEED)
    level = 0.5 - 0.3 * np.arange(99) / 99
    errors = expit(level - 0.5 + 0.5 * generator.standard_normal((studies, 1)))
    errors = errors + 0.02 * generator.standard_normal((studies, 99))
    np.clip(errors, 0, 1, out=errors)
    for task, own in enumerate(errors):
        study = optuna.create_study(
            study_name=f"task {task}", directions=["minimize", "minimize"], storage=storage
        )
        # Every configuration is measured somewhere: five are each study's turn.
        turn = np.arange(5 * task, 5 * task + 5) % 99
        others = generator.permutation(np.setdiff1d(np.arange(99), turn))
        drawn = np.append(turn, others[: MEASURED - 5])
        study.add_trials(
            [
                create_trial(
                    params=space.params(index),
                    distributions={**space.distributions()},
                    values=[float(own[index]), 1e6 * (index + 1)],
                )
                for index in drawn.tolist()
            ]
        )
    storage.remove_session()
    storage.engine.dispose()


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    cells = [["", "processor seconds", "clock", "peak memory"]]
    for found in rows:
        size = f"{found['tasks']:,} x {found['configurations']:,}"
        seconds = [f"{float(found[f'{kind}_seconds']):.1f}" for kind in ("processor", "clock")]
        cells.append([f"{found['step']}, {size}", *seconds, f"{float(found['peak_mb']):.0f} MB"])
    return markdown(cells)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes, prints."""
    options = script.parser(__doc__, "small matrices, few studies").parse_args(argv)
    results = Results(script.folder(options, "speed"), "fit")
    sizes, studies = (((20, 99), (87, 99)), 20) if options.quick else (SIZES, STUDIES)
    rows: list[Row] = []
    for size in sizes:
        with process() as pool:
            rows += pool.apply(fit, size)
        results.table(rows)
        print(table(rows[-1:]), flush=True)
    with TemporaryDirectory() as folder:
        database = Path(folder) / "studies.db"
        store(database, studies)
        with process() as pool:
            rows += pool.apply(learn_from_studies, (str(database), studies))
    results.table(rows)
    results.record({"threads": 1, "seed": SEED, "rank": RANK, "observed": OBSERVED})
    print(table(rows))


if __name__ == "__main__":
    main()
