"""How long packing takes and unpacking, in copies of the float32 tensor.

Four million normal numbers of many sizes, as a matrix whose rows hold the blocks, are packed to
nearest into a format of every family, as `packed_saved_tensors` does it: rounded numbers where each
is written by itself, numbers that are rounded on the way where they share scales. A copy is
x.clone(). What is unpacked is checked to be what quantize makes, bit for bit, before anything is
timed. Turns, threads and freed memory are those of benchmarks.speed.quantizer; reported are the
fastest turns and their ratios, which know least of what else the machine does.

    python -m benchmarks.speed.packing [--quick] [--device cpu|cuda]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from tempfile import TemporaryDirectory
from typing import Final

import torch

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.turns import process, take_turns
from benchmarks.speed.answers import SEED, require_equal
from benchmarks.speed.clock import seconds
from benchmarks.speed.families import NAMES, QUICK_NAMES, numbers
from benchmarks.speed.quantizer import KEEP_MEMORY
from optuna_peppp import parse_format
from optuna_peppp.configurations.formats import FloatFormat, MachineFloat
from optuna_peppp.lowprecision import quantize
from optuna_peppp.lowprecision.rounding.packing import pack, pack_elements

SHAPE: Final = (4096, 1024)
QUICK_SHAPE: Final = (32, 256)
TURNS, QUICK_TURNS = 7, 2


def compare(name: str, shape: tuple[int, int], device: torch.device, turns: int) -> Row:
    """Times of one format."""
    fmt, raw = parse_format(name), numbers(shape, device)
    rounded = quantize(raw, fmt)
    if isinstance(fmt, FloatFormat | MachineFloat):
        packing = partial(pack_elements, rounded, fmt)
    else:
        packing = partial(pack, raw, fmt)
    packed = packing()
    require_equal(packed.unpack(), rounded, f"what is unpacked and rounded of {name}")
    calls = {"copy": raw.clone, "pack": lambda: packing().string, "unpack": packed.unpack}
    times = take_turns({k: partial(seconds, c, device) for k, c in calls.items()}, turns, seed=SEED)
    least = {what: min(own) for what, own in times.items()}
    return {
        "device": device.type,
        "format": name,
        "numbers": raw.numel(),
        "bytes": packed.nbytes,
        **{f"{what}_microseconds": 1e6 * least[what] for what in calls},
        "pack_in_copies": least["pack"] / least["copy"],
        "unpack_in_copies": least["unpack"] / least["copy"],
    }


def measure(device: str, quick: bool) -> list[Row]:
    """A row a format; for a process of one thread."""
    shape, turns = (QUICK_SHAPE, QUICK_TURNS) if quick else (SHAPE, TURNS)
    names = QUICK_NAMES if quick else NAMES
    return [compare(name, shape, torch.device(device), turns) for name in names]


def table(rows: Sequence[Row]) -> str:
    """Copies in Markdown, a line a format."""
    lines = [["format", "packing, in copies", "unpacking, in copies"]]
    for row in rows:
        copies = (f"{float(row[f'{what}_in_copies']):.1f}" for what in ("pack", "unpack"))
        lines.append([f"`{row['format']}`", *copies])
    return markdown(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes, prints."""
    parser = script.parser(__doc__, "small tensors of a few formats")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args(argv)
    stem = "packing" if options.device == "cpu" else f"packing_{options.device}"
    results = Results(script.folder(options, "speed"), stem)
    os.environ |= KEEP_MEMORY
    with TemporaryDirectory() as folder, process(1, folder) as pool:
        rows = pool.apply(measure, (options.device, options.quick))
    results.table(rows)
    results.record({"seed": SEED, "threads": 1, "device": options.device})
    print(table(rows))


if __name__ == "__main__":
    main()
