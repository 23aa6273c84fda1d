"""Every sampler on the same tasks, seeds and budgets, ours beside Optuna's.

Each task of a corpus in turn is the new one: its errors are what a study measures, and our
sampler learns from all other tasks (the others know nothing of them, as is their nature). Tasks
that were measured in part cannot be new ones, for the truth would be missing; they still serve as
past ones. Every sampler makes the same trials under the same seeds in a study of its own, told
(error, memory), both minimized. Built-in samplers propose configurations again, which is a trial
that tells nothing new; the tables count trials, the CSV also counts different configurations
only. Time is processor time on one thread, so that a busy machine does not change it.

For a corpus (a CSV file or the name of one that ships) of the stem STEM, in results/compare/:

- STEM_trials/SAMPLER.csv: every trial. Runs that are there are not made again: an interrupted
  comparison goes on, and removing a file makes it measure that sampler anew.
- STEM.csv: mean, standard error, and difference from the best built-in sampler of every measure
  after every number of measurements. STEM_effort.csv: trials needed and time. STEM.png, and
  STEM.json with versions, hardware and seeds. On standard output, tables in Markdown.

All samplers of which the folder holds all runs are summarized, not only those of --samplers.

    python -m benchmarks.samplers.compare [--corpus CSV-OR-NAME] [--samplers NAME ...] [--quick]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.harness import script, tasks
from benchmarks.harness.script import Results
from benchmarks.samplers import records
from benchmarks.samplers.contestants import CONTESTANTS, missing
from benchmarks.samplers.runs import BUDGETS
from benchmarks.samplers.tournament import Comparison

QUICK_TRIALS: Final = 11
"""The first of which Gaussian processes sample from their model."""

QUICK_TASKS: Final = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what is missing and summarizes what is there."""
    parser = script.parser(__doc__, f"{QUICK_TASKS} tasks and {QUICK_TRIALS} trials")
    tasks.add_corpus(parser)
    parser.add_argument(
        "--samplers",
        nargs="*",
        choices=CONTESTANTS,
        default=list(CONTESTANTS),
        metavar="NAME",
        help=f"whom to run, of {', '.join(CONTESTANTS)} (default: all; no name: only summarize)",
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs on every task (default: 1)")
    parser.add_argument("--every", type=int, default=1, help="only every N-th task as a new one")
    options = parser.parse_args(argv)
    for option in ("seeds", "every", "jobs"):
        if getattr(options, option) < 1:
            parser.error(f"--{option} must be at least 1; got {getattr(options, option)}")
    matrix = tasks.corpus(parser, options.corpus)
    rows = tasks.complete_rows(matrix)
    if not rows:
        parser.error("--corpus: no task was measured completely, so that none can be a new one")
    every = options.every * (-(-len(rows) // QUICK_TASKS) if options.quick else 1)
    stem, folder = Path(options.corpus).stem, script.folder(options, "compare")
    comparison = Comparison(
        matrix,
        records.fingerprint(matrix),
        rows[::every],
        range(options.seeds),
        min(QUICK_TRIALS if options.quick else max(BUDGETS), len(matrix.space)),
        Results(folder, stem + f"-every-{options.every}" * (options.every > 1)),
        folder / f"{stem}_trials",
    )
    comparison.runs.mkdir(exist_ok=True)
    samplers = []
    for sampler in options.samplers:
        packages = missing(CONTESTANTS[sampler])
        if packages:
            print(f"{sampler}: skipped, needs {' and '.join(packages)}", file=sys.stderr)
        else:
            samplers.append(sampler)
    try:
        comparison.run(comparison.pending(samplers), options.jobs)
        comparison.summarize()
    except ValueError as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
