"""What a training step in simulated low precision costs, beside plain float32 and QPyTorch.

A step is forward pass, backward pass and update of 32 random images of five classes with SGD:
plain3 on 16 pixels, torchvision's ResNet-18 and VGG-11 for small images on 32. Compared are a plain
PyTorch loop; our TrainingStep in float32, eager and compiled, so that only the precision differs;
the same in low precision, to nearest and stochastically; and the network with QPyTorch's quantizers
at the same places and its OptimLP. They are checked to train alike before anything is timed, as
step_contestants.py says. All take turns, in a new order each time, so that a busy machine hits all
alike: medians over turns, of the time and of its ratios in the same turn.

Every network and number of threads has a process of its own with an empty cache of compiled
kernels, and another that finds them there; one thread only for plain3, for the others compile for
minutes. Then whole trainings of plain3, in whole_trainings.py: one after another over the 99
configurations, counting the graphs that are compiled; one measurement as a corpus is made of them,
2,500 images, 500 more to test on, 6 epochs; several processes at once; and, as an upper bound of
what batching could gain, four networks in float32 that torch.func makes one.

    python benchmarks/speed/training_step.py [--quick] [--device cpu|cuda] [--network NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # Where environment.py and speed/ are.
from speed.files import RESULTS, Facts, Row, write_facts, write_table
from speed.processes import find_ninja, graphs, process, synchronize
from speed.qpytorch_step import why_missing
from speed.step_contestants import (
    COMPILED,
    EAGER,
    LOOP,
    NAMES,
    NETWORKS,
    OURS,
    QPYTORCH,
    SEED,
    Contestant,
    Name,
    check,
    contestant,
)
from speed.step_report import draw, table, verdicts
from speed.whole_trainings import (
    CORPUS_EPOCHS,
    IMAGES,
    SMALL,
    growth,
    measurements,
    projected,
    several_processes,
    stacked,
)

from optuna_peppp.lowprecision.rounding.quantize import can_compile

TURN: Final = 0.1
"""Seconds that a turn lasts, or one step if that is longer."""

LONG: Final = 0.3
"""Seconds of a step, by the plain loop, from which on there are fewer turns."""

TURNS, LONG_TURNS, QUICK_TURNS = 15, 3, 3
WARM_UP: Final = {"cpu": 2, "cuda": 4}
"""Steps: the second is the first that is compiled, the fourth the last that is not replayed."""

GROWTH, QUICK_GROWTH = (320, 99), (64, 5)
"""Images, and how many configurations train on them."""

CROWD: Final = (640, 8, 5)
"""Images, trainings a process and turns, when several processes train."""


def compiling(network: str, device: torch.device) -> Facts:
    """Seconds from nothing to the second step, the first that is compiled."""
    begin = time.perf_counter()
    can_compile()
    facts: Facts = {"set_up_seconds": time.perf_counter() - begin}
    for name in (COMPILED, *OURS):
        begin = time.perf_counter()
        contestant(network, name, device).train(2)
        synchronize(device)
        facts[f"{label(name)}_seconds"] = time.perf_counter() - begin
    return facts


def label(name: Name) -> str:
    """A contestant's name in one piece."""
    return "_".join(part.replace(" ", "_") for part in name if part)


def seconds(training: Contestant, device: torch.device, steps: int) -> tuple[float, float]:
    """Time of a step by the clock, and of this process on all its cores."""
    synchronize(device)
    clock, work = time.perf_counter(), time.process_time()
    training.train(steps)
    synchronize(device)
    return (time.perf_counter() - clock) / steps, (time.process_time() - work) / steps


def compare(network: str, device: torch.device, names: Sequence[Name], quick: bool) -> list[Row]:
    """A row a contestant."""
    running = {name: contestant(network, name, device) for name in names}
    for training in running.values():
        training.train(WARM_UP[device.type])
    once = {name: seconds(training, device, 1)[0] for name, training in running.items()}
    turns = QUICK_TURNS if quick else TURNS if once[LOOP] < LONG else LONG_TURNS
    order, shuffler = list(names), random.Random(SEED)
    times: dict[Name, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(turns):
        shuffler.shuffle(order)
        for name in order:
            steps = max(1, round(TURN / once[name]))
            times[name].append(seconds(running[name], device, steps))
    return summary(network, device, times)


def summary(
    network: str, device: torch.device, times: Mapping[Name, Sequence[tuple[float, float]]]
) -> list[Row]:
    """A row a contestant, of seconds by the clock and of work in every turn."""

    def ratio(above: Name, below: Name) -> float:
        pairs = zip(times[above], times[below], strict=True)
        return median(a / b for (a, _), (b, _) in pairs)

    rows: list[Row] = []
    for name, own in times.items():
        rival = ("QPyTorch", name[1])
        rows.append(
            {
                "device": device.type,
                "threads": torch.get_num_threads(),
                "network": network,
                "method": name[0],
                "rounding": name[1] or "",
                "turns": len(own),
                "milliseconds": 1e3 * median(clock for clock, _ in own),
                "least_milliseconds": 1e3 * min(clock for clock, _ in own),
                "process_milliseconds": 1e3 * median(work for _, work in own),
                "ratio_to_float32_compiled": ratio(name, COMPILED),
                "ratio_to_float32_eager": ratio(name, EAGER),
                "speedup_over_qpytorch": ratio(rival, name) if rival in times else "",
            }
        )
    return rows


def measure(device_name: str, threads: int, network: str, quick: bool) -> tuple[list[Row], Facts]:
    """Checks and times the steps of one network; for a process of its own."""
    torch.set_num_threads(threads)
    device, missing = torch.device(device_name), why_missing()
    names = NAMES if not missing else tuple(name for name in NAMES if name not in QPYTORCH)
    facts = {f"empty_cache_{name}": value for name, value in compiling(network, device).items()}
    before = graphs()
    differences = check(network, device, names)
    rows = compare(network, device, names, quick)
    return rows, {
        "network": network,
        "threads": threads,
        "qpytorch_left_out": missing,
        **facts,
        **{f"difference {name}": value for name, value in differences.items()},
        "recompilations": graphs() - before,
    }


def compiling_again(device_name: str, threads: int, network: str) -> Facts:
    """Seconds where the cache is full; for a process of its own."""
    torch.set_num_threads(threads)
    return {
        f"full_cache_{name}": value
        for name, value in compiling(network, torch.device(device_name)).items()
    }


def main() -> None:
    """Measures, writes, draws, prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="plain3, all threads, few turns")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    device, quick = arguments.device, arguments.quick
    suffix = "" if device == "cpu" else f"_{device}"
    path = arguments.output / f"training_step{suffix}.csv"
    networks = [SMALL] if quick else arguments.network

    find_ninja()
    every = os.cpu_count() or 1
    counts = [every] if quick or device == "cuda" else sorted({1, every})
    rows, grown, steps = list[Row](), list[Row](), list[Facts]()
    whole: dict[str, object] = {}
    with TemporaryDirectory() as folder:
        for network, threads in product(networks, counts):
            if threads < every and network != SMALL:
                continue
            cache = f"{folder}/{network}-{threads}"
            with process(threads, cache) as pool:
                own, facts = pool.apply(measure, (device, threads, network, quick))
            with process(threads, cache) as pool:
                facts |= pool.apply(compiling_again, (device, threads, network))
            rows += own
            steps.append(facts)
            write_table(rows, path)
            print(json.dumps(facts, indent=2), table(own), sep="\n", flush=True)
        if SMALL in networks:
            with process(every, f"{folder}/{SMALL}-{every}") as pool:
                grown = pool.apply(growth, (device, *(QUICK_GROWTH if quick else GROWTH)))
            write_table(grown, path.with_stem(f"{path.stem}_growth"))
            whole = trainings(device, counts, quick, folder)
    settings = {"seed": SEED, "device": device, "qtorch": version("qtorch")}
    if device == "cuda":
        settings["gpu"] = torch.cuda.get_device_name()
    graphs_of = [int(row["graphs"]) for row in grown]
    result = {
        **settings,
        "steps": steps,
        "recompilations_over_configurations": graphs_of[-1] - graphs_of[0] if grown else "",
        **whole,
        "projected": projected(rows),
        "targets": verdicts(rows),
    }
    write_facts(result, path.with_suffix(".json"))
    draw(rows, grown, path.with_suffix(".png"))
    print(json.dumps({**whole, "projected": projected(rows)}, indent=2))
    print(table(rows), *verdicts(rows), sep="\n")


def trainings(device: str, counts: Sequence[int], quick: bool, folder: str) -> dict[str, object]:
    """Measurements, several at once and stacked ones, by the number of threads."""
    images, epochs, turns = (64, 1, 1) if quick else (IMAGES, CORPUS_EPOCHS, QUICK_TURNS)
    measured, batched = list[Facts](), list[Facts]()
    for threads in counts:
        with process(threads, f"{folder}/{SMALL}-{threads}") as pool:
            known: Facts = {"threads": threads}
            measured.append(known | pool.apply(measurements, (device, images, epochs, turns)))
            batched.append(known | pool.apply(stacked, (device, QUICK_TURNS if quick else TURNS)))
    every = counts[-1]
    crowds = [
        (count, max(1, every // count))
        for count in sorted({1, every} if device == "cpu" else {1, 2, 4})
    ]
    sizes = (64, 2, 1) if quick else CROWD
    return {
        "measurements": measured,
        "stacked": batched,
        "several_processes": several_processes(crowds, device, *sizes, f"{folder}/{SMALL}"),
    }


if __name__ == "__main__":
    main()
