"""How long it takes until an Optuna user has the sampler, and how many modules that loads.

Every import in a fresh process, in turns, on one thread, of the processor's time and of the clock:
of Optuna alone, of the sampler, of all that a study of one's own needs, and of the part with torch.

    python -m benchmarks.speed.imports [--quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from typing import Final

from benchmarks.harness import script
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.harness.turns import THREADS, take_turns

TURNS: Final = 9
SEED: Final = 0

IMPORTS: Final = {
    "Optuna": "import optuna; optuna.samplers.TPESampler",
    "`PEPPPSampler`": "import optuna_peppp; optuna_peppp.PEPPPSampler",
    "and `MetaModel`, `predict`": (
        "import optuna_peppp as p; p.PEPPPSampler, p.MetaModel, p.predict, p.ConfigurationSpace"
    ),
    "`lowprecision`": "import optuna_peppp.lowprecision",
}
"""What is imported, as a program."""

_PROGRAM: Final = """
import sys, time, json
begin, processor = time.perf_counter(), time.process_time()
{statement}
seconds = time.perf_counter() - begin, time.process_time() - processor
print(json.dumps([*seconds, len(sys.modules), "torch" in sys.modules]))
"""


def once(statement: str) -> tuple[float, float, int, bool]:
    """Seconds of the clock and of the processor, modules loaded, and whether torch is one."""
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | dict.fromkeys(THREADS, "1"),
    )
    seconds, processor, modules, torch = json.loads(run.stdout)
    return seconds, processor, modules, torch


def measure(turns: int) -> list[Row]:
    """A row an import: medians over the turns."""
    calls = {name: partial(once, statement) for name, statement in IMPORTS.items()}
    for call in calls.values():
        call()  # compiles what was never imported, and reads it from the disk
    rows: list[Row] = []
    for name, found in take_turns(calls, turns, seed=SEED).items():
        seconds, processor, modules, torch = zip(*found, strict=True)
        rows.append(
            {
                "import": name,
                "modules": modules[0],
                "torch": torch[0],
                "milliseconds": round(1e3 * median(seconds)),
                "processor_milliseconds": round(1e3 * median(processor)),
                "turns": turns,
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """As the document prints it."""
    lines = [
        [
            str(row["import"]),
            str(row["modules"]),
            "yes" if str(row["torch"]) == "True" else "no",
            str(row["processor_milliseconds"]),
        ]
        for row in rows
    ]
    return markdown([["import", "modules", "torch among them", "ms"], *lines])


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, and writes imports.csv and .json."""
    options = script.parser(__doc__, "two turns").parse_args(argv)
    results = Results(script.folder(options, "speed"), "imports")
    rows = measure(2 if options.quick else TURNS)
    results.table(rows)
    results.record({"seed": SEED, "threads": 1})
    print(table(rows))


if __name__ == "__main__":
    main()
