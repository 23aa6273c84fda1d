"""Measuring a corpus: many configurations on many data sets, into one CSV file."""

from __future__ import annotations

import csv
import io
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from tqdm import tqdm

from optuna_peppp import sampling
from optuna_peppp.processes import worker_pool
from optuna_peppp.space import ConfigurationSpace, Value

if TYPE_CHECKING:
    from optuna_peppp.lowprecision.datasets import ImageData
    from optuna_peppp.lowprecision.experiment import Experiment

COLUMNS: Final = (
    "task",
    "model",
    "format_a",
    "format_b",
    "learning_rate",
    "error",
    "memory",
    "seed",
    "epochs",
    "rounding",
    "batch_size",
    "image_size",
    "diverged",
    "seconds",
)
"""The columns of a collected corpus: the corpus format, then how each row was measured."""

_SETTINGS: Final = ("epochs", "rounding", "batch_size", "image_size")
"""What must be the same in all rows of one file, or its repeats could not be averaged."""

_KEY: Final = ("task", "model", "format_a", "format_b", "learning_rate", "seed")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the plan: a configuration to measure in an experiment.

    Attributes:
        experiment: The network, the data set and the settings.
        params: The configuration.
        row: The columns known before it is measured.
    """

    experiment: Experiment
    params: dict[str, Value]
    row: dict[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        """What makes a row the same measurement."""
        return tuple(self.row[name] for name in _KEY)


def plan(
    experiments: Iterable[Experiment],
    space: ConfigurationSpace,
    indices: Sequence[int],
    *,
    fraction: float | None = None,
    scheme: sampling.Scheme = "uniform",
    seed: int = 0,
) -> list[Measurement]:
    """Measurements of the chosen configurations, experiment by experiment: all, or a sample.

    Args:
        experiments: Networks and data sets; each data set is loaded to compute its memory.
        space: The configurations; it tunes ``format_a``, ``format_b`` and ``learning_rate``.
        indices: Which of them to measure.
        fraction: Expected share to measure; each configuration at least once. None for all.
        scheme: How they are sampled (:func:`optuna_peppp.sampling.plan`).
        seed: Of the sample.

    Raises:
        ValueError: ``fraction`` is out of range.
    """
    rows = [
        [_measurement(experiment, data, space, index, memory[index]) for index in indices]
        for experiment in experiments
        for data, memory in [(experiment.load(), experiment.memory(space))]
    ]
    if fraction is None:
        return [measurement for row in rows for measurement in row]
    sizes = [[int(measurement.row["memory"]) for measurement in row] for row in rows]
    drawn = sampling.plan(sizes, fraction, scheme, seed)
    return [rows[row][column] for row, column in np.argwhere(drawn).tolist()]


def _measurement(
    experiment: Experiment, data: ImageData, space: ConfigurationSpace, index: int, memory: float
) -> Measurement:
    params = space.params(index)
    row = {
        "task": data.name,
        "model": experiment.network,
        **{name: str(value) for name, value in params.items()},
        "memory": str(int(memory)),
        "seed": str(experiment.seed),
        "epochs": str(experiment.epochs),
        "rounding": experiment.rounding,
        "batch_size": str(experiment.batch_size),
        "image_size": str(data.input_shape[1]),
    }
    return Measurement(experiment, params, row)


def collect(measurements: Sequence[Measurement], output: Path, *, jobs: int = 1) -> int:
    """Measures what a corpus file does not hold yet, a row at a time.

    Every finished measurement is on disk at once, so an interruption loses only those that
    are running; calling again goes on from there. Progress is shown on standard error.

    Args:
        measurements: The plan.
        output: The CSV file to create or extend.
        jobs: Processes; the machine's cores are shared between them.

    Returns:
        How many measurements were made.

    Raises:
        ValueError: The file is not a collected corpus or was measured with other settings, or
            the plan holds a measurement twice.
        KeyboardInterrupt: Ctrl-C, once everything finished is on disk.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1; got {jobs}")
    for key, count in Counter(m.key for m in measurements).items():
        if count > 1:
            raise ValueError(
                f"measurements must differ; {', '.join(key)} is there {count} times: "
                "name every data set once, and no two alike"
            )
    done = _prepare(output, measurements)
    remaining = [m for m in measurements if m.key not in done]
    bar = tqdm(total=len(measurements), initial=len(measurements) - len(remaining), unit="run")
    with bar, output.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        for row in _measured(remaining, jobs):
            writer.writerow(row)
            file.flush()
            os.fsync(file.fileno())
            bar.set_postfix_str(f"{row['format_a']} / {row['format_b']}: error {row['error']}")
            bar.update()
    return len(remaining)


def _prepare(output: Path, measurements: Sequence[Measurement]) -> set[tuple[str, ...]]:
    """Keys of the rows that a file holds; creates it with its header where there is none.

    A last line without its end is a measurement that was being written when the process was
    killed: it is cut off.
    """
    content = output.read_bytes() if output.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        if not ",".join(COLUMNS).encode().startswith(content):
            raise ValueError(f"{output} is not a collected corpus; choose another output file")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(",".join(COLUMNS) + "\n")
        return set()
    reader = csv.DictReader(io.StringIO(whole.decode(errors="replace"), newline=""))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(
            f"{output}, line 1: columns must be {','.join(COLUMNS)}, as `collect` writes them; "
            "choose another output file"
        )
    expected = {(m.row["task"], m.row["model"]): m.row for m in measurements}
    done = set()
    for row in reader:
        where = f"{output}, line {reader.line_num}"
        if None in row.values() or None in row:
            raise ValueError(f"{where}: expected {len(COLUMNS)} fields; mend or remove it")
        ours = expected.get((row["task"], row["model"]), row)
        for name in _SETTINGS:
            if row[name] != ours[name]:
                raise ValueError(
                    f"{where}: measured with {name} {row[name]}, not {ours[name]}; "
                    f"ask for {name} {row[name]} or choose another output file"
                )
        done.add(tuple(row[name] for name in _KEY))
    if len(whole) < len(content):
        os.truncate(output, len(whole))
    return done


def _measured(measurements: Sequence[Measurement], jobs: int) -> Iterator[dict[str, str]]:
    """Complete rows, as they are measured."""
    if jobs == 1:
        yield from map(_measure, measurements)
        return
    with worker_pool(jobs) as pool:
        futures = [pool.submit(_measure, measurement) for measurement in measurements]
        for future in as_completed(futures):
            yield future.result()


def _measure(measurement: Measurement) -> dict[str, str]:
    start = time.perf_counter()
    result = measurement.experiment.measure(measurement.params)
    return measurement.row | {
        "error": f"{result.error:.6g}",
        "diverged": str(int(result.diverged)),
        "seconds": f"{time.perf_counter() - start:.2f}",
    }
