"""Measures all corpora that are planned, one after another, and writes a page about each.

    python benchmarks/collect/corpora.py [--only NAME ...] [--device auto] [--jobs N] [--quick]

For every recipe of recipes.py: measures what its storage, OUTPUT/NAME.journal, does not hold yet;
exports OUTPUT/NAME.csv; and makes the page of facts (corpus_facts.py) of a corpus whose rows are
complete. Where the same tasks were trained for longer, compares the two (epochs_study.py).

The command may be interrupted or killed, run again, and run several times at once, on one machine
or on many that share the folder: they share the work. --tasks measures the first so many data sets
of each recipe, to send them to a machine in groups. --quick measures thin networks on two
superclasses, which takes two CPU cores a quarter of an hour.

With a GPU, one ResNet-18 needs a small part of it: --jobs 4 trains four configurations at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import corpus_facts
import epochs_study
import optuna
from recipes import EPOCHS, QUICK, RECIPES, Recipe

from optuna_peppp.collecting.corpus_file import export
from optuna_peppp.collecting.workers import collect

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = BENCHMARKS / "results" / "collect"
DATA: Final = BENCHMARKS.parents[1] / "shared" / "data" / "cifar100"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and exports; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="corpora (default: all)")
    parser.add_argument("--tasks", type=int, help="at most so many data sets of each")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of SUPERCLASS.npz")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of storages and CSV")
    parser.add_argument("--device", default="auto", help="where to train")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--quick", action="store_true", help="thin networks, two superclasses")
    arguments = parser.parse_args(argv)
    recipes = {recipe.name: recipe for recipe in (QUICK if arguments.quick else RECIPES)}
    unknown = sorted(set(arguments.only or ()) - recipes.keys())
    if unknown:
        parser.error(f"--only must name some of {', '.join(recipes)}; got {', '.join(unknown)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        for name in arguments.only or recipes:
            recipe = recipes[name]
            tasks = min(recipe.tasks, arguments.tasks or recipe.tasks)
            print(f"{name}:")
            measure(replace(recipe, tasks=tasks), arguments)
    except KeyboardInterrupt:
        print("Interrupted; run the same command to go on.", file=sys.stderr)
        return 130
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    return 0


def measure(recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Measures, exports and describes one corpus."""
    output: Path = arguments.output
    storage, path = str(output / f"{recipe.name}.journal"), output / f"{recipe.name}.csv"
    measurements = recipe.measurements(arguments.data, arguments.device)
    try:
        made = collect(measurements, storage, jobs=arguments.jobs)
        print(f"{path}: {len(measurements)} measurements, {made} of them made now")
    finally:
        export(measurements, storage, path)
    if recipe.fraction is None and recipe.tasks * len(recipe.networks) >= 3:
        corpus_facts.main([str(path), "--output", str(output / recipe.name)])
    shorter = output / f"{EPOCHS.get(recipe.name, '')}.csv"
    if recipe.name in EPOCHS and shorter.is_file():
        epochs_study.main([str(shorter), str(path), "--output", str(output)])


if __name__ == "__main__":
    sys.exit(main())
