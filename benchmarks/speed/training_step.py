"""What a training step in simulated low precision costs, beside plain float32 and QPyTorch.

A step is forward pass, backward pass and update of 32 random images of five classes with SGD:
plain3 on 16 pixels, torchvision's ResNet-18 and VGG-11 for small images on 32. Compared are a plain
PyTorch loop; our TrainingStep in float32, eager and compiled, so that only the precision differs;
the same in low precision, to nearest and stochastically, and in recipes of hardware; the network
with QPyTorch's quantizers at the same places and its OptimLP. They are checked to train alike
before anything is timed, as contestants.py says. All take turns, in a new order each time, so that
a busy machine hits all alike: medians over turns, of the time and of its ratios in the same turn.

Every network and number of threads has a process of its own with an empty cache of compiled
kernels, and another that finds them there; one thread only for plain3, for the others compile for
minutes. Then whole trainings of plain3, in whole_trainings.py: one after another over the 99
configurations, counting the graphs that are compiled, and one measurement as a corpus is made of
them, 2,500 images, 500 more to test on, 6 epochs.

    python -m benchmarks.speed.training_step [--quick] [--device cpu|cuda] [--network NAME ...]
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate, product
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import torch

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.turns import find_ninja, graphs, process, ratio, synchronize, take_turns
from benchmarks.speed.contestants import (
    COMPILED,
    EAGER,
    HARDWARE,
    LOOP,
    NAMES,
    NETWORKS,
    OURS,
    QPYTORCH,
    REFERENCE,
    SEED,
    Contestant,
    Name,
    check,
    contestant,
)
from benchmarks.speed.qpytorch_step import why_missing
from benchmarks.speed.whole_trainings import CORPUS_EPOCHS, IMAGES, SMALL, growth, measurements
from optuna_peppp.configurations.names import Network
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

COLORS: Final = {
    LOOP: ("0.75", ""),
    EAGER: ("0.55", ""),
    OURS[0]: ("#D55E00", ""),
    OURS[1]: ("#D55E00", "//"),
    REFERENCE[0]: ("#E69F00", ""),
    REFERENCE[1]: ("#E69F00", "//"),
    **dict(zip(HARDWARE, (("#009E73", ""), ("#009E73", "//"), ("#009E73", "xx")), strict=True)),
    QPYTORCH[0]: ("#0072B2", ""),
    QPYTORCH[1]: ("#0072B2", "//"),
}
"""Color and hatching of everybody beside compiled float32, the unit."""

Facts = dict[str, str | int | float]


def compiling(network: Network, device: torch.device) -> Facts:
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


def compare(
    network: Network, device: torch.device, names: Sequence[Name], quick: bool
) -> list[Row]:
    """A row a contestant."""
    running = {name: contestant(network, name, device) for name in names}
    for training in running.values():
        training.train(WARM_UP[device.type])
    once = {name: seconds(training, device, 1)[0] for name, training in running.items()}
    turns = QUICK_TURNS if quick else TURNS if once[LOOP] < LONG else LONG_TURNS
    calls = {
        name: partial(seconds, training, device, max(1, round(TURN / once[name])))
        for name, training in running.items()
    }
    return summary(network, device, take_turns(calls, turns, seed=SEED))


def summary(
    network: Network, device: torch.device, times: Mapping[Name, Sequence[tuple[float, float]]]
) -> list[Row]:
    """A row a contestant, of seconds by the clock and of work in every turn."""
    clocks = {name: [clock for clock, _ in own] for name, own in times.items()}
    rows: list[Row] = []
    for (method, rounding), own in clocks.items():
        rival = clocks.get(("QPyTorch", rounding))
        rows.append(
            {
                "device": device.type,
                "threads": torch.get_num_threads(),
                "network": network,
                "method": method,
                "rounding": rounding or "",
                "turns": len(own),
                "milliseconds": 1e3 * median(own),
                "least_milliseconds": 1e3 * min(own),
                "process_milliseconds": 1e3 * median(w for _, w in times[method, rounding]),
                "ratio_to_float32_compiled": ratio(own, clocks[COMPILED]),
                "ratio_to_float32_eager": ratio(own, clocks[EAGER]),
                "speedup_over_qpytorch": "" if rival is None else ratio(rival, own),
            }
        )
    return rows


def measure(
    device_name: str, threads: int, network: Network, quick: bool
) -> tuple[list[Row], Facts]:
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


def compiling_again(device_name: str, threads: int, network: Network) -> Facts:
    """Seconds where the cache is full; for a process of its own."""
    torch.set_num_threads(threads)
    return {
        f"full_cache_{name}": value
        for name, value in compiling(network, torch.device(device_name)).items()
    }


def table(rows: Sequence[Row]) -> str:
    """The steps in Markdown."""
    header = ("network", "threads", "step", "rounding", "ms", "times float32 compiled")
    lines = [[*header, "times float32 eager", "times as fast as QPyTorch"]]
    for row in rows:
        names = (str(row[name]) for name in ("network", "threads", "method", "rounding"))
        ratios = (f"{row[f'ratio_to_float32_{unit}']:.2f}" for unit in ("compiled", "eager"))
        speedup = row["speedup_over_qpytorch"]
        fast = "" if speedup == "" else f"{speedup:.1f}"
        lines.append([*names, f"{row['milliseconds']:.1f}", *ratios, fast])
    return markdown(lines)


def draw(rows: Sequence[Row], grown: Sequence[Row], results: Results) -> None:
    """Steps in compiled float32 ones, and the seconds that the configurations add up to."""
    from benchmarks.harness import looks

    figure, ((steps, trainings),) = looks.panels(1, 2, figsize=(12, 4.5), width_ratios=(2, 1))
    groups = sorted({(str(row["network"]), int(row["threads"])) for row in rows})
    ratios = {
        (row["network"], row["threads"], row["method"], row["rounding"]): row[
            "ratio_to_float32_compiled"
        ]
        for row in rows
    }
    for place, ((method, rounding), (color, hatch)) in enumerate(COLORS.items()):
        heights = [ratios.get((*group, method, rounding or ""), float("nan")) for group in groups]
        offset = 0.9 * ((place + 0.5) / len(COLORS) - 0.5)
        positions = [index + offset for index in range(len(groups))]
        text = f"{method} {rounding or ''}".strip()
        bars = steps.bar(
            positions, heights, 0.85 / len(COLORS), color=color, hatch=hatch, label=text
        )
        steps.bar_label(bars, fmt="%.1f", fontsize=7)
    steps.axhline(1, color="0.3", linewidth=1)
    steps.set_xticks(range(len(groups)), [f"{network}\nthreads: {t}" for network, t in groups])
    steps.set(yscale="log", ylabel="time of a step, in compiled float32 ones")
    steps.yaxis.set_major_formatter("{x:g}")
    steps.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    for backend, color in (("compiled", looks.RED), ("eager", looks.ORANGE)):
        total = list(accumulate(float(row[f"{backend}_seconds"]) for row in grown))
        trainings.plot(range(1, len(total) + 1), total, color=color, label=backend)
    trainings.set(xlabel="configurations trained, one epoch each", ylabel="seconds in all")
    trainings.set_title("plain3, one process" if grown else "")
    trainings.legend()
    trainings.grid(alpha=0.3)
    results.picture(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes, draws, prints."""
    parser = script.parser(__doc__, "plain3, all threads, few turns")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    options = parser.parse_args(argv)
    device, quick = options.device, options.quick
    stem = "training_step" if device == "cpu" else f"training_step_{device}"
    results = Results(script.folder(options, "speed"), stem)
    networks = [SMALL] if quick else options.network
    find_ninja()
    every = os.cpu_count() or 1
    counts = [every] if quick or device == "cuda" else sorted({1, every})
    rows, grown, steps, measured = list[Row](), list[Row](), list[Facts](), list[Facts]()
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
            results.table(rows)
            print(json.dumps(facts, indent=2), table(own), sep="\n", flush=True)
        if SMALL in networks:
            with process(every, f"{folder}/{SMALL}-{every}") as pool:
                grown = pool.apply(growth, (device, *(QUICK_GROWTH if quick else GROWTH)))
            results.table(grown, "growth")
            sizes = (64, 1, 1) if quick else (IMAGES, CORPUS_EPOCHS, QUICK_TURNS)
            for threads in counts:
                with process(threads, f"{folder}/{SMALL}-{threads}") as pool:
                    seconds = pool.apply(measurements, (device, *sizes))
                measured.append({"threads": threads, **seconds})
    settings: dict[str, object] = {"seed": SEED, "device": device}
    if device == "cuda":
        settings["gpu"] = torch.cuda.get_device_name()
    graphs_of = [int(row["graphs"]) for row in grown] or [0]
    again = {"recompilations_over_configurations": graphs_of[-1] - graphs_of[0]}
    results.record({**settings, "steps": steps, **again, "measurements": measured}, ["qtorch"])
    draw(rows, grown, results)
    print(json.dumps(measured, indent=2), table(rows), sep="\n")


if __name__ == "__main__":
    main()
