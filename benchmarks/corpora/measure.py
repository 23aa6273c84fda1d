"""Measures all corpora that are planned, one after another, and writes a page about each.

    python -m benchmarks.corpora.measure [--only NAME ...] [--device auto] [--jobs N] [--quick]

For every recipe of recipes.py: measures what its storage, OUTPUT/NAME.journal, does not hold yet;
exports OUTPUT/NAME.csv; and makes the page of facts (facts.py) of a corpus whose rows are complete.
Where the same tasks were trained for longer, compares the two (epochs.py).

The command may be interrupted or killed, run again, and run several times at once, on one machine
or on many that share the folder: they share the work. --tasks measures the first so many data sets
of each recipe, to send them to a machine in groups. --quick measures thin networks on two
superclasses, which takes two CPU cores a quarter of an hour; their corpora have names of their own
and stand beside the others.

With a GPU, one ResNet-18 needs a small part of it: --jobs 4 trains four configurations at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna

from benchmarks.corpora import epochs, facts
from benchmarks.corpora.recipes import EPOCHS, QUICK, RECIPES, Recipe
from benchmarks.harness import script
from optuna_peppp.collecting.corpus_file import export
from optuna_peppp.collecting.workers import collect


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and exports; the exit status."""
    parser = script.parser(__doc__, "thin networks, two superclasses")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="corpora (default: all)")
    parser.add_argument("--tasks", type=int, help="at most so many data sets of each")
    parser.add_argument("--data", type=Path, default=script.DATA / "cifar100", help="of NAME.npz")
    parser.add_argument("--device", default="auto", help="where to train")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    options = parser.parse_args(argv)
    recipes = {recipe.name: recipe for recipe in (QUICK if options.quick else RECIPES)}
    unknown = sorted(set(options.only or ()) - recipes.keys())
    if unknown:
        parser.error(f"--only must name some of {', '.join(recipes)}; got {', '.join(unknown)}")
    output = options.output or script.RESULTS / "collect"
    output.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        for name in options.only or recipes:
            recipe = recipes[name]
            print(f"{name}:")
            tasks = min(recipe.tasks, options.tasks or recipe.tasks)
            measure(replace(recipe, tasks=tasks), output, options)
    except KeyboardInterrupt:
        print("Interrupted; run the same command to go on.", file=sys.stderr)
        return 130
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    return 0


def measure(recipe: Recipe, output: Path, options: argparse.Namespace) -> None:
    """Measures, exports and describes one corpus."""
    storage, path = str(output / f"{recipe.name}.journal"), output / f"{recipe.name}.csv"
    measurements = recipe.measurements(options.data, options.device)
    try:
        made = collect(measurements, storage, jobs=options.jobs)
        print(f"{path}: {len(measurements)} measurements, {made} of them made now")
    finally:
        export(measurements, storage, path)
    if recipe.fraction is None and recipe.tasks * len(recipe.networks) >= 3:
        facts.main([str(path), "--output", str(output / recipe.name)])
    shorter = output / f"{EPOCHS.get(recipe.name, '')}.csv"
    if recipe.name in EPOCHS and shorter.is_file():
        epochs.compare(shorter, path, output)


if __name__ == "__main__":
    sys.exit(main())
