"""Whole trainings of plain3: one after another, several at once, several as one network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.pool import Pool
from statistics import median
from typing import Final

import torch
from speed.files import Facts, Row
from speed.processes import graphs, process, synchronize
from speed.step_contestants import BATCH, NETWORKS, PRECISION, SEED, build, noise
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from optuna_peppp import ConfigurationSpace
from optuna_peppp.configurations.precision import Precision
from optuna_peppp.lowprecision import ImageData, RoundingScheme, train
from optuna_peppp.lowprecision.rounding.quantize import Backend

SMALL: Final = "plain3"
IMAGES, CORPUS_EPOCHS, EPOCHS = 2500, 6, 10
"""Images of a measurement; epochs with plain3, as in the corpus that ships, and with the others."""

BACKENDS: Final[tuple[Backend, ...]] = ("compiled", "eager")
STOCHASTIC: Final = RoundingScheme(rounding="stochastic")
STACKED: Final = 4


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


def measurements(device: str, images: int, epochs: int, turns: int) -> Facts:
    """Median seconds of one measurement as a corpus is made of, compiled before, and eager."""
    data = noise(images, NETWORKS[SMALL], test=max(1, images // 5))
    for name in BACKENDS:  # What compiling leaves behind is cleared in the training after it.
        seconds(data, device, name, 1)
    times: dict[Backend, list[float]] = {name: [] for name in BACKENDS}
    for _ in range(turns):
        for name in BACKENDS:
            times[name].append(seconds(data, device, name, epochs))
    return {f"{name}_seconds": median(own) for name, own in times.items()}


def projected(rows: Sequence[Row]) -> list[Row]:
    """Seconds of a measurement of the large networks, taking nothing but steps to take time."""
    return [
        {
            "network": row["network"],
            "method": row["method"],
            "threads": row["threads"],
            "seconds_projected": -(-IMAGES // BATCH) * EPOCHS * float(row["milliseconds"]) / 1e3,
        }
        for row in rows
        if row["network"] != SMALL and row["rounding"] != "nearest"
    ]


def some(device: str, images: int, trainings: int) -> None:
    """Trains compiled, several times; for a process of its own."""
    data = noise(images, NETWORKS[SMALL])
    for _ in range(trainings):
        seconds(data, device, "compiled", 1)


def several_processes(
    crowds: Sequence[tuple[int, int]],
    device: str,
    images: int,
    trainings: int,
    turns: int,
    cache: str,
) -> list[Row]:
    """Trainings per second, by how many processes train at once.

    Args:
        crowds: Processes and threads of each.
        device: Where to train.
        images: Of a training of one epoch.
        trainings: Of each process in a turn.
        turns: Each crowd's; they alternate.
        cache: Folder of compiled kernels, without the number of threads that it ends in.
    """
    with ExitStack() as stack:
        running = {
            (processes, threads): [
                stack.enter_context(process(threads, f"{cache}-{threads}"))
                for _ in range(processes)
            ]
            for processes, threads in crowds
        }

        def together(pools: Sequence[Pool], count: int) -> float:
            begin = time.perf_counter()
            for answer in [pool.apply_async(some, (device, images, count)) for pool in pools]:
                answer.get()
            return time.perf_counter() - begin

        for pools in running.values():
            together(pools, 2)
        times: dict[tuple[int, int], list[float]] = {crowd: [] for crowd in running}
        for _ in range(turns):
            for crowd, pools in running.items():
                times[crowd].append(together(pools, trainings))
    return [
        {
            "processes": processes,
            "threads_each": threads,
            "trainings_per_second": processes * trainings / median(own),
        }
        for (processes, threads), own in times.items()
    ]


def stacked(device_name: str, turns: int) -> Facts:
    """Forward and backward passes in float32 of several networks as one, by ``torch.func``.

    An upper bound of what batching could gain, for nothing is rounded or updated.
    """
    device = torch.device(device_name)
    networks = [build(SMALL).to(device).train() for _ in range(STACKED)]
    parameters, buffers = stack_module_state(networks)
    data = noise(BATCH, NETWORKS[SMALL])
    images = ((data.train_images.float() - 127.5) / 74).to(device)
    labels = data.train_labels.to(device)

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        logits = functional_call(networks[0], (parameters, buffers), (images,))
        return cross_entropy(logits, labels)

    one, every = grad(loss), vmap(grad(loss))
    first = [
        {name: x[0].detach().clone() for name, x in held.items()} for held in (parameters, buffers)
    ]
    calls: dict[str, Callable[[], object]] = {}
    for backend in BACKENDS:
        single, batched = (one, every) if backend == "eager" else map(torch.compile, (one, every))
        calls[f"{backend}_one"] = partial(single, *first)
        calls[f"{backend}_stacked"] = partial(batched, parameters, buffers)
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            synchronize(device)
            begin = time.perf_counter()
            call()
            synchronize(device)
            times[name].append(time.perf_counter() - begin)
    facts: Facts = {f"{name}_milliseconds": 1e3 * median(own) for name, own in times.items()}
    for backend in BACKENDS:
        alone, together = times[f"{backend}_one"], times[f"{backend}_stacked"]
        facts[f"{backend}_gain"] = median(
            STACKED * a / b for a, b in zip(alone, together, strict=True)
        )
    return facts
