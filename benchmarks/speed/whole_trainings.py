"""Whole trainings of plain3, one after another."""

from __future__ import annotations

import time
from statistics import median
from typing import Final

from benchmarks.harness.tables import Row
from benchmarks.harness.turns import graphs
from benchmarks.speed.contestants import BATCH, NETWORKS, PRECISION, SEED, build, noise
from optuna_peppp import ConfigurationSpace
from optuna_peppp.configurations.names import Network
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import ImageData, RoundingScheme, train
from optuna_peppp.lowprecision.rounding.quantize import Backend

SMALL: Final[Network] = "plain3"
IMAGES, CORPUS_EPOCHS = 2500, 6
"""Of a measurement, as in the corpus that ships."""

BACKENDS: Final[tuple[Backend, ...]] = ("compiled", "eager")
STOCHASTIC: Final = RoundingScheme(rounding="stochastic")


def seconds(
    data: ImageData,
    device: str,
    backend: Backend,
    epochs: int,
    precision: Precision = PRECISION,
) -> float:
    """Time of a whole training and its tests, rounded stochastically."""
    begin = time.perf_counter()
    train(
        build(SMALL),
        data,
        precision,
        epochs=epochs,
        batch_size=BATCH,
        seed=SEED,
        device=device,
        scheme=STOCHASTIC,
        backend=backend,
    )
    return time.perf_counter() - begin


def growth(device: str, images: int, configurations: int) -> list[Row]:
    """Time of one epoch of each configuration in turn, and the graphs compiled so far."""
    space, data = ConfigurationSpace.paper(), noise(images, NETWORKS[SMALL])
    rows: list[Row] = []
    for index in range(configurations):
        precision = space.precision(index)
        times = {f"{name}_seconds": seconds(data, device, name, 1, precision) for name in BACKENDS}
        rows.append({"training": index + 1, **times, "graphs": graphs()})
    return rows


def measurements(device: str, images: int, epochs: int, turns: int) -> dict[str, float]:
    """Median seconds of one measurement as a corpus is made of, compiled before, and eager."""
    data = noise(images, NETWORKS[SMALL], test=max(1, images // 5))
    for name in BACKENDS:  # What compiling leaves behind is cleared in the training after it.
        seconds(data, device, name, 1)
    times: dict[Backend, list[float]] = {name: [] for name in BACKENDS}
    for _ in range(turns):
        for name in BACKENDS:
            times[name].append(seconds(data, device, name, epochs))
    return {f"{name}_seconds": median(own) for name, own in times.items()}
