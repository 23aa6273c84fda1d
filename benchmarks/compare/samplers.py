"""Every sampler on the same tasks, seeds and budgets, ours beside Optuna's.

Each task of a corpus in turn is the new one: its errors are what a study measures, and our
sampler learns from all other tasks (the others know nothing of them, as is their nature). Tasks
that were measured in part cannot be new ones, for the truth would be missing; they still serve as
past ones. Every sampler makes the same trials under the same seeds in a study of its own, told
(error, memory), both minimized. Built-in samplers propose configurations again, which is a trial
that tells nothing new; the tables count trials, the CSV also counts different configurations
only. Time is processor time on one thread, so that a busy machine does not change it.

For a corpus (a CSV file or the name of one that ships) of the stem STEM, in the folder --output:

- STEM_trials/SAMPLER.csv: every trial. Runs that are there are not made again: an interrupted
  comparison goes on, and removing a file makes it measure that sampler anew.
- STEM.csv: mean, standard error, and difference from the best built-in sampler of every measure
  after every number of measurements. STEM_effort.csv: trials needed and time. STEM.png, and
  STEM.json with versions, hardware and seeds. On standard output, tables in Markdown.

All samplers of which the folder holds all runs are summarized, not only those of --samplers.

    python benchmarks/compare/samplers.py [--corpus CSV-OR-NAME] [--samplers NAME ...] [--quick]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
sys.path.append(str(BENCHMARKS))  # Where environment.py is.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # Read when numpy and torch are imported.

import records  # noqa: E402
from contestants import CONTESTANTS, missing  # noqa: E402
from runs import BUDGETS, complete_rows  # noqa: E402
from tournament import Comparison  # noqa: E402

from optuna_peppp.corpora.catalog import read_corpus  # noqa: E402

RESULTS: Final = BENCHMARKS / "results" / "compare"
TRIALS: Final = max(BUDGETS)
QUICK_TRIALS: Final = 11  # The first of which Gaussian processes sample from their model.
QUICK_TASKS: Final = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what is missing and summarizes what is there."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    for option in ("seeds", "every", "jobs"):
        if getattr(arguments, option) < 1:
            parser.error(f"--{option} must be at least 1; got {getattr(arguments, option)}")
    try:
        matrix = read_corpus(arguments.corpus)
    except (OSError, ValueError) as problem:
        parser.error(f"--corpus: {problem}")
    rows = complete_rows(matrix)
    if not rows:
        parser.error("--corpus: no task was measured completely, so that none can be a new one")
    every: int = arguments.every
    if arguments.quick:
        every *= -(-len(rows) // QUICK_TASKS)
    stem = Path(arguments.corpus).stem + "-quick" * arguments.quick
    comparison = Comparison(
        matrix,
        records.fingerprint(matrix),
        rows[::every],
        range(arguments.seeds),
        min(QUICK_TRIALS if arguments.quick else TRIALS, len(matrix.space)),
        arguments.output,
        stem + f"-every-{arguments.every}" * (arguments.every > 1),
        arguments.output / f"{stem}_trials",
    )
    comparison.runs.mkdir(parents=True, exist_ok=True)
    samplers = []
    for sampler in arguments.samplers:
        packages = missing(CONTESTANTS[sampler])
        if packages:
            print(f"{sampler}: skipped, needs {' and '.join(packages)}", file=sys.stderr)
        else:
            samplers.append(sampler)
    try:
        jobs = comparison.pending(samplers)
    except ValueError as problem:
        parser.error(str(problem))
    comparison.run(jobs, arguments.jobs)
    try:
        comparison.summarize()
    except ValueError as problem:
        parser.error(str(problem))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--corpus",
        default="plain3-cifar100",
        help="a CSV file, or the name of a corpus that ships (default: %(default)s)",
    )
    parser.add_argument(
        "--samplers",
        nargs="*",
        choices=CONTESTANTS,
        default=list(CONTESTANTS),
        metavar="NAME",
        help=f"whom to run, of {', '.join(CONTESTANTS)} (default: all; no name: only summarize)",
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs on every task (default: 1)")
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="take every N-th task only as a new one (default: 1)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_TASKS} tasks and {QUICK_TRIALS} trials, written beside the full results",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    return parser


if __name__ == "__main__":
    main()
