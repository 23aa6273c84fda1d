"""How fast every family of formats is rounded: beside a copy, QPyTorch, pychop and torchao.

Half a million normal numbers of many sizes, as a matrix whose rows hold the blocks, are rounded by
the public function: compiled to nearest and stochastically, and eagerly; and to nearest by whoever
else has the format. torchao's functions encode and decode, and are what a user of its emulation
calls; they run eagerly, as all others do. Answers are checked before anything is timed: compiled
and eager agree bit for bit, and those of others are ours but for the signs of zeros.

Turns and memory are those of :mod:`benchmarks.speed.quantizer`. Table and picture show the fastest
turn of everybody, which knows least of what else the machine does; medians are in the CSV. Those
that take longer than a fifth of a second are called in two turns only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Final

import torch
from torch import Tensor

from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.turns import ratio, take_turns
from benchmarks.speed.answers import SEED, require_equal
from benchmarks.speed.clock import seconds
from benchmarks.speed.rivals import rivals
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding.quantize import ROUNDINGS, Backend, Rounding

NAMES: Final = (
    *("1-4-3", "bfloat16", "float24", "float8-e4m3", "float8-e4m3@tensor"),
    *("mxfp8-e4m3", "mxfp6-e2m3", "mxfp4", "nvfp4", "float8-e4m3@128", "int8@32x32", "int4@32"),
    *("int2@256/minmax", "dynamic8@256", "dynamic4@128", "float8-e4m3@256"),
)
QUICK_NAMES: Final = ("1-4-3", "bfloat16", "mxfp8-e4m3", "dynamic8@256")
SHAPE: Final = (512, 1024)
QUICK_SHAPE: Final = (32, 256)
COPY: Final = ("copy", "")
OURS: Final[tuple[tuple[Backend, Rounding], ...]] = (
    ("compiled", "nearest"),
    ("compiled", "stochastic"),
    ("eager", "nearest"),
)
SLOW: Final = 0.2

Entrant = tuple[str, str]
"""A method and its rounding."""


def numbers(shape: tuple[int, int], device: torch.device) -> Tensor:
    """What is rounded."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(shape, generator=generator) * torch.randn(shape, generator=generator).exp()
    return x.to(device)


def entrants(name: str, x: Tensor) -> dict[Entrant, Callable[[], Tensor]]:
    """Everybody who rounds to a format."""
    calls: dict[Entrant, Callable[[], Tensor]] = {COPY: x.clone}
    for backend, rounding in OURS:
        calls[backend, rounding] = partial(quantize, x, name, rounding, backend=backend)
    others = rivals(name) if x.device.type == "cpu" else {}
    return calls | {(package, "nearest"): partial(rounds, x) for package, rounds in others.items()}


def check(name: str, x: Tensor, calls: dict[Entrant, Callable[[], Tensor]]) -> None:
    """Compares answers.

    Raises:
        RuntimeError: Two of them differ.
    """
    backends: tuple[Backend, ...] = ("compiled", "eager")
    for rounding in ROUNDINGS:
        one, other = (
            quantize(x, name, rounding, torch.Generator(x.device).manual_seed(SEED), backend=b)
            for b in backends
        )
        require_equal(one, other, f"compiled and eager {rounding} of {name}")
    nearest = quantize(x, name, backend="eager")
    for (method, _), call in calls.items():
        if method not in ("copy", "compiled", "eager"):
            # Zero added to zero is positive.
            require_equal(call() + 0.0, nearest + 0.0, f"ours and {method}'s {name}")


def compare(name: str, x: Tensor, turns: int) -> list[Row]:
    """A row for everybody who rounds to a format."""
    calls = entrants(name, x)
    check(name, x, calls)
    slow = {}
    for entrant, call in calls.items():
        begin = time.perf_counter()
        call()
        if time.perf_counter() - begin > SLOW:
            slow[entrant] = call
    quick = {entrant: call for entrant, call in calls.items() if entrant not in slow}
    device = x.device
    times = take_turns({e: partial(seconds, c, device) for e, c in quick.items()}, turns, seed=SEED)
    copies = times[COPY]
    for entrant, call in slow.items():
        times[entrant] = [seconds(call, device) for _ in range(2)]
    rows: list[Row] = []
    for (method, rounding), own in times.items():
        in_turn = len(own) == len(copies)
        rows.append(
            {
                "device": device.type,
                "format": name,
                "size": x.numel(),
                "method": method,
                "rounding": rounding,
                "microseconds": median(own) * 1e6,
                "least_microseconds": min(own) * 1e6,
                "ratio_to_copy": ratio(own, copies) if in_turn else median(own) / median(copies),
                "ratio_of_least": min(own) / min(copies),
            }
        )
    return rows


def measure(device: str, turns: int, quick: bool) -> list[Row]:
    """A row a format and entrant; for a process of one thread."""
    torch.set_num_threads(1)
    x = numbers(QUICK_SHAPE if quick else SHAPE, torch.device(device))
    return [row for name in (QUICK_NAMES if quick else NAMES) for row in compare(name, x, turns)]


def table(rows: Sequence[Row]) -> str:
    """Times in Markdown, a line a format: ours, and how often ours to nearest fits into others'."""
    header = ("compiled, nearest", "compiled, stochastic", "eager, nearest")
    lines = [["format", *(f"{text} (us)" for text in header), "in copies", "pychop", "torchao"]]
    names = list(dict.fromkeys(str(row["format"]) for row in rows))
    for name in names:
        own = {(str(r["method"]), str(r["rounding"])): r for r in rows if r["format"] == name}
        ours = float(own[OURS[0]]["least_microseconds"])
        times = [f"{float(own[entrant]['least_microseconds']):,.0f}" for entrant in OURS]
        others = [own.get((package, "nearest")) for package in ("pychop", "torchao")]
        speedups = [f"{float(o['least_microseconds']) / ours:,.0f}" if o else "" for o in others]
        copies = f"{float(own[OURS[0]]['ratio_of_least']):.1f}"
        lines.append([f"`{name}`", *times, copies, *speedups])
    return markdown(lines)


def draw(rows: Sequence[Row], results: Results) -> None:
    """Time in copies, a row a format, a mark for everybody."""
    from benchmarks.harness import looks

    styles = {
        ("compiled", "nearest"): ("compiled, nearest", "#D55E00", "o"),
        ("compiled", "stochastic"): ("compiled, stochastic", "#D55E00", "^"),
        ("eager", "nearest"): ("eager, nearest", "#E69F00", "o"),
        ("torchao", "nearest"): ("torchao, eager", "#0072B2", "s"),
        ("qtorch", "nearest"): ("QPyTorch", "0.2", "D"),
        ("pychop", "nearest"): ("pychop", "#009E73", "v"),
    }
    names = list(dict.fromkeys(str(row["format"]) for row in rows))
    figure, panels = looks.panels(1, 1, figsize=(8, 0.34 * len(names) + 1.6))
    axes = panels[0, 0]
    for entrant, (label, color, mark) in styles.items():
        own = [row for row in rows if (row["method"], row["rounding"]) == entrant]
        if own:
            places = [names.index(str(row["format"])) for row in own]
            ratios = [float(row["ratio_of_least"]) for row in own]
            axes.plot(ratios, places, mark, color=color, label=label, markersize=6)
    axes.axvline(1, color="0.6")
    axes.set(xscale="log", xlabel="time of rounding half a million numbers, in copies of them")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)
    looks.legend(figure, axes, columns=3)
    results.picture(figure, "families")
