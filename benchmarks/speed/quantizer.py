"""How fast numbers are rounded: quantize beside QPyTorch, a copy and the memory itself.

Standard normal float32 numbers are rounded to two formats of the paper's Table 3 and two of
Table 4, by every backend, to nearest and stochastically, through the public function, whatever it
costs around its kernel. The copy is x.clone(), which allocates its output as rounding does. On the
CPU freed memory is kept for reuse (glibc), or page faults would be most of what is measured, of the
copy above all. Bandwidth is that of a large copy between two arrays, bytes read plus bytes written.

Answers are checked before anything is timed: compiled and eager agree bit for bit, with one seed
where rounding is stochastic; nearest is QPyTorch's bit for bit on finite numbers; stochastically
both go to the same two neighbours, with the same mean.

All take turns, in a new order each time, so that a busy machine hits all alike. A turn is one call
to warm up, and as many that are timed as fill two milliseconds, but one in any case. Reported are
medians over turns, of the time of a call and of its ratios in the same turn.

Each number of threads has a process of its own, with an empty cache of compiled kernels: the JSON
tells how long compiling takes, what a call costs whatever its size (one of 64 numbers), and how
often all formats, sizes and the 99 configurations compiled anything again.

All families of formats are timed too, at one size and with one thread: see
:mod:`benchmarks.speed.families`.

    python -m benchmarks.speed.quantizer [--quick] [--device cpu|cuda]
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import torch
from torch import Tensor

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.turns import find_ninja, graphs, process, ratio, synchronize, take_turns
from benchmarks.speed import families
from benchmarks.speed.answers import METHODS, SEED, check
from benchmarks.speed.clock import seconds
from benchmarks.speed.rivals import PACKAGES
from optuna_peppp import ConfigurationSpace
from optuna_peppp.configurations.formats import FloatFormat
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Backend

FORMATS: Final = tuple(map(FloatFormat.parse, ("1-3-1", "1-4-3", "1-6-7", "1-8-11")))
SIZES: Final = (2**12, 2**14, 2**16, 2**18, 2**19, 2**20, 2**22, 2**24)
LARGE: Final = (2**26, 2**28)
"""On a GPU, where what surrounds the kernel takes longer than a smaller one."""

QUICK: Final = (2**12, 2**16)
TARGET: Final = 2**19
TURNS, QUICK_TURNS = 25, 3
LARGE_TURNS: Final = 7
"""Of arrays larger than a million numbers."""

TINY: Final = 64
COPY: Final = "copy"
STYLES: Final = {
    (COPY, ""): ("copy", "0.6", "-"),
    ("compiled", "nearest"): ("compiled, nearest", "#D55E00", "-"),
    ("compiled", "stochastic"): ("compiled, stochastic", "#D55E00", ":"),
    ("eager", "nearest"): ("eager, nearest", "#E69F00", "-"),
    ("eager", "stochastic"): ("eager, stochastic", "#E69F00", ":"),
    ("qpytorch", "nearest"): ("QPyTorch, nearest", "0.2", "-"),
    ("qpytorch", "stochastic"): ("QPyTorch, stochastic", "0.2", ":"),
}
"""Label, color and line of everybody."""

# One arena that neither shrinks nor maps large arrays by themselves, from the process's start.
KEEP_MEMORY: Final = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}

Contestant = tuple[str, str]
"""A method and its rounding, which a copy has none of."""


def contestants(
    x: Tensor, fmt: FloatFormat, methods: Sequence[Backend]
) -> dict[Contestant, Callable[[], Tensor]]:
    """What is timed."""
    calls: dict[Contestant, Callable[[], Tensor]] = {(COPY, ""): x.clone}
    for method, rounding in product(methods, ROUNDINGS):
        calls[method, rounding] = partial(quantize, x, fmt, rounding, backend=method)
    return calls


def compare(
    size: int, fmt: FloatFormat, device: torch.device, methods: Sequence[Backend], turns: int
) -> list[Row]:
    """A row a contestant."""
    x = torch.randn(size, generator=torch.Generator().manual_seed(SEED)).to(device)
    running = contestants(x, fmt, methods)
    calls = {name: partial(seconds, call, device) for name, call in running.items()}
    times = take_turns(calls, turns, seed=SEED)
    rows: list[Row] = []
    for (method, rounding), own in times.items():
        rival = times.get(("qpytorch", rounding))
        rows.append(
            {
                "device": device.type,
                "threads": torch.get_num_threads(),
                "format": str(fmt),
                "size": size,
                "method": method,
                "rounding": rounding,
                "turns": turns,
                "microseconds": median(own) * 1e6,
                "least_microseconds": min(own) * 1e6,
                "gigabytes_per_second": x.nbytes * 2 / median(own) / 1e9,
                "ratio_to_copy": ratio(own, times[COPY, ""]),
                "speedup_over_qpytorch": "" if rival is None else ratio(rival, own),
            }
        )
    return rows


def bandwidth(device: torch.device, size: int) -> float:
    """GB/s read and written by a copy, the best of several."""
    source, target = torch.ones(size, device=device), torch.zeros(size, device=device)
    best = min(seconds(lambda: target.copy_(source), device) for _ in range(10))
    return source.nbytes * 2 / best / 1e9


def compiling(device: torch.device) -> dict[str, object]:
    """Seconds from nothing to the first answers; the first of them sets torch.compile up."""
    facts: dict[str, object] = {}
    for rounding in ROUNDINGS:
        begin = time.perf_counter()
        quantize(torch.ones(TINY, device=device), FORMATS[0], rounding, backend="compiled")
        synchronize(device)
        facts[f"compile_{rounding}_seconds"] = time.perf_counter() - begin
    return facts


def every_configuration(device: torch.device) -> None:
    """Rounds to both formats of each of the paper's 99 configurations."""
    space = ConfigurationSpace.paper()
    x = torch.randn(TINY, TINY, generator=torch.Generator().manual_seed(SEED)).to(device)
    for index, rounding in product(range(len(space)), ROUNDINGS):
        precision = space.precision(index)
        for fmt in (precision.format_a, precision.format_b):
            quantize(x, fmt, rounding, backend="compiled")


def measure(device_name: str, threads: int, quick: bool) -> tuple[list[Row], dict[str, object]]:
    """Everything about one number of threads; for a process of its own."""
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    methods, missing = METHODS, ""
    try:
        quantize(torch.ones(TINY, device=device), FORMATS[0], backend="qpytorch")
    except Exception as error:  # what a failed build raises differs between compilers
        methods, missing = METHODS[:2], f"{type(error).__name__}: {error}"
        print(f"QPyTorch is left out: {missing}", flush=True)
    facts = {"threads": threads, "qpytorch_left_out": missing, **compiling(device)}
    before = graphs()
    for fmt in FORMATS:
        check(fmt, device, methods)
    tiny = torch.ones(TINY, device=device)
    for (method, rounding), call in contestants(tiny, FORMATS[0], methods).items():
        each = median(seconds(call, device) for _ in range(QUICK_TURNS if quick else TURNS))
        facts[f"overhead_{method}{'_' * bool(rounding)}{rounding}_microseconds"] = each * 1e6
    rows: list[Row] = []
    sizes = QUICK if quick else SIZES + LARGE * (device.type == "cuda")
    for size, fmt in product(sizes, FORMATS):
        turns = QUICK_TURNS if quick else TURNS if size <= 2**20 else LARGE_TURNS
        rows += compare(size, fmt, device, methods, turns)
    every_configuration(device)
    facts["recompilations"] = graphs() - before
    # Far beyond the caches.
    facts["bandwidth_gigabytes_per_second"] = bandwidth(device, 2**22 if quick else 2**26)
    return rows, facts


def table(rows: Sequence[Row], size: int) -> str:
    """What came out at one size, in Markdown; a line a number of threads, rounding and format."""
    header = ("threads", "rounding", "format", "copy (us)", "ours (us)", "times a copy")
    lines = [[*header, "times as fast as QPyTorch"]]
    own = [row for row in rows if row["size"] == size]
    copies = {(r["threads"], r["format"]): r["microseconds"] for r in own if r["method"] == COPY}
    compiled = [row for row in own if row["method"] == "compiled"]
    for row in sorted(compiled, key=lambda row: (row["threads"], row["rounding"])):
        names = (str(row[name]) for name in ("threads", "rounding", "format"))
        copy, speedup = copies[row["threads"], row["format"]], row["speedup_over_qpytorch"]
        times = f"{copy:.1f}", f"{row['microseconds']:.1f}", f"{row['ratio_to_copy']:.2f}"
        lines.append([*names, *times, "" if speedup == "" else f"{speedup:.0f}"])
    return markdown(lines)


def draw(rows: Sequence[Row], facts: Sequence[Mapping[str, object]], results: Results) -> None:
    """Over size: throughput, and ratios; a row of panels a number of threads."""
    from benchmarks.harness import looks

    columns = {
        "gigabytes_per_second": "read and written (GB/s)",
        "ratio_to_copy": "time, in copies",
        "speedup_over_qpytorch": "faster than QPyTorch (times)",
    }
    size = (12, 3.2 * len(facts) + 0.6)
    figure, panels = looks.panels(len(facts), 3, figsize=size, sharex=True, sharey="col")
    for line, fact in zip(panels, facts, strict=True):
        of_threads = [row for row in rows if row["threads"] == fact["threads"]]
        for axes, (column, label) in zip(line, columns.items(), strict=True):
            for name, (text, color, style) in STYLES.items():
                every: dict[int, list[float]] = {}
                for row in of_threads:
                    if (row["method"], row["rounding"]) == name and row[column] != "":
                        every.setdefault(int(row["size"]), []).append(float(row[column]))
                if every and not (column == "speedup_over_qpytorch" and name[0] == "qpytorch"):
                    middle = [median(v) for v in every.values()]
                    low, high = ([end(v) for v in every.values()] for end in (min, max))
                    axes.plot(list(every), middle, style, color=color, label=text)
                    axes.fill_between(list(every), low, high, color=color, alpha=0.15)
            axes.set(yscale="log", ylabel=label)
            axes.set_xscale("log", base=2)
            axes.yaxis.set_major_formatter("{x:,g}")
            axes.grid(alpha=0.3)
        bandwidth = fact["bandwidth_gigabytes_per_second"]
        line[0].axhline(bandwidth, color=looks.BLUE, linestyle="--", label="memory bandwidth")
        line[0].set_title(f"threads: {fact['threads']}", loc="left")
    figure.supxlabel("numbers (float32); lines: median of the formats, bands: all of them")
    looks.legend(figure, panels[0, 0], columns=4)
    results.picture(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes, draws, prints."""
    parser = script.parser(__doc__, "two small sizes, few turns")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args(argv)
    stem = "quantizer" if options.device == "cpu" else f"quantizer_{options.device}"
    results = Results(script.folder(options, "speed"), stem)
    find_ninja()
    os.environ |= KEEP_MEMORY
    every = os.cpu_count() or 1
    rows: list[Row] = []
    facts = []
    turns = QUICK_TURNS if options.quick else TURNS
    with TemporaryDirectory() as cache, process(1, cache) as pool:
        every_family = pool.apply(families.measure, (options.device, turns, options.quick))
    results.table(every_family, "families")
    families.draw(every_family, results)
    print(families.table(every_family), flush=True)
    for threads in sorted({1, every}) if options.device == "cpu" else [every]:
        with TemporaryDirectory() as cache, process(threads, cache) as pool:
            own, fact = pool.apply(measure, (options.device, threads, options.quick))
        rows += own
        facts.append(fact)
        print(f"{threads} of {every} threads measured: {json.dumps(fact, indent=2)}", flush=True)
    results.table(rows)
    settings: dict[str, object] = {"seed": SEED, "device": options.device}
    if options.device == "cuda":
        settings["gpu"] = torch.cuda.get_device_name()
    results.record({**settings, "measured": facts}, PACKAGES)
    draw(rows, facts, results)
    print(table(rows, QUICK[-1] if options.quick else TARGET))


if __name__ == "__main__":
    main()
