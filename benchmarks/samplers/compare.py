"""Every sampler on the same tasks: Optuna's, ours, and rivals that know what ours knows.

Each task of a corpus in turn is the new one: its errors are what a sampler measures, and who knows
past tasks learns from all others. Judged is the hypervolume regret of what was measured
(runs.py); slow ones may run on some tasks only, and are compared with ours on the same. Time is
processor time on one thread, so that a busy machine does not change it.

- results/compare/CORPUS/NAME.csv: every run. What is there is not run again: an interrupted
  comparison goes on, and removing a file makes it run that contestant anew.
- results/compare/regret.csv, .png and .json: what all runs there say together, those of other
  corpora too, with versions. On standard output, a table a corpus.

OptunaHub's registry is read from GitHub, or from a copy whose folder ``package`` the environment
variable OPTUNAHUB_REGISTRY names.

    python -m benchmarks.samplers.compare [--corpus CSV-OR-NAME ...] [--samplers NAME ...] [--quick]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness import looks, script, tasks
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, grouped, markdown, mean_and_error, six_digits
from benchmarks.samplers.contestants import CONTESTANTS
from benchmarks.samplers.runs import BUDGETS, Runner, append, read, regrets
from benchmarks.samplers.tasks import CORPORA
from benchmarks.samplers.tasks import read as read_corpus
from optuna_peppp import ErrorMatrix

DEFAULT: Final = "bayesian"
"""With whom everybody is compared."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what is missing and summarizes what is there."""
    parser = script.parser(__doc__, "two tasks and 11 trials")
    parser.add_argument(
        "--corpus", nargs="*", default=CORPORA, help="names or files; default: five"
    )
    parser.add_argument(
        "--samplers",
        nargs="*",
        choices=CONTESTANTS,
        default=list(CONTESTANTS),
        metavar="NAME",
        help=f"whom to run, of {', '.join(CONTESTANTS)} (default: all; no name: only summarize)",
    )
    parser.add_argument("--trials", type=int, default=max(BUDGETS), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=1, help="runs on every task (default: 1)")
    parser.add_argument("--every", type=int, default=1, help="only every N-th task as a new one")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    options = parser.parse_args(argv)
    for option in ("trials", "seeds", "every", "jobs"):
        if getattr(options, option) < 1:
            parser.error(f"--{option} must be at least 1; got {getattr(options, option)}")
    folder, found = script.folder(options, "compare"), list[Row]()
    # By the name of their results: a corpus of ours may have been asked for by another path.
    for name, corpus in {Path(each).stem: each for each in (*CORPORA, *options.corpus)}.items():
        runs, asked = folder / name, corpus in options.corpus
        if not (asked or runs.exists()):
            continue
        if corpus in CORPORA and corpus.endswith(".csv") and not Path(corpus).exists():
            print(f"{runs.name}: skipped, {corpus} is not there", file=sys.stderr)
            continue
        try:
            matrix = read_corpus(corpus)
        except (OSError, ValueError) as problem:
            parser.error(f"--corpus: {problem}")
        rows = tasks.complete_rows(matrix)
        if not rows:
            parser.error(f"--corpus: {corpus} has no task that was measured completely")
        step = options.every * (-(-len(rows) // 2) if options.quick else 1)
        trials = min(11 if options.quick else options.trials, len(matrix.space))
        runner = Runner(matrix, trials)
        if asked:
            _run(runner, rows[::step], range(options.seeds), runs, options.samplers, options.jobs)
        found += _summary(matrix, runner.corpus, runs)
    if not found:
        parser.error("there are no runs to summarize; name some --samplers")
    results = Results(folder, "regret")
    results.table([six_digits(row) for row in found])
    results.picture(_drawn(found))
    results.record({"threads": 1, "versions": sorted({str(row["version"]) for row in found})})
    for name, own in grouped(results.read(), "corpus").items():
        print(f"Hypervolume regret, {name}:\n\n{table(own)}\n")


def _run(
    runner: Runner, rows: Sequence[int], seeds: range, folder: Path, samplers: list[str], jobs: int
) -> None:
    """Runs who is asked for, installed and not done."""
    pending = []
    for sampler in samplers:
        done = {
            (run.corpus, run.task, run.seed)
            for run in read(folder / f"{sampler}.csv")
            if len(run.indices) >= runner.trials
        }
        wanted = [
            (sampler, row, seed)
            for row in rows
            for seed in seeds
            if (runner.corpus, runner.matrix.labels[row], seed) not in done
        ]
        missing = CONTESTANTS[sampler].missing
        if wanted and missing:
            print(f"{sampler}: skipped, needs {' and '.join(missing)}", file=sys.stderr)
        else:
            pending += wanted
    # A task after another, so that what is learned for it is learned once.
    pending.sort(key=lambda job: job[1])
    if pending:
        for (sampler, *_), run in tasks.each(runner, pending, jobs, unit="run"):
            append(folder / f"{sampler}.csv", run)


def _summary(matrix: ErrorMatrix, corpus: str, folder: Path) -> Iterator[Row]:
    """Means of all runs on this corpus, over seeds, then tasks, and paired with the default's."""
    truths = dict(zip(matrix.labels, zip(matrix.errors, matrix.memory, strict=True), strict=True))
    judged: dict[str, dict[str, list[list[float]]]] = {}
    facts: dict[str, Row] = {}
    for sampler in CONTESTANTS:
        runs = [run for run in read(folder / f"{sampler}.csv") if run.corpus == corpus]
        for run in runs:
            own = regrets(run, *truths[run.task])
            judged.setdefault(sampler, {}).setdefault(run.task, []).append(own)
        if runs:
            spent = float(np.mean([run.milliseconds for run in runs]))
            facts[sampler] = {"version": runs[-1].version, "milliseconds": spent}
    for sampler, of_tasks in judged.items():
        for place, count in enumerate(BUDGETS):
            values = {
                name: np.array([np.mean([run[place] for run in of[task]]) for task in of_tasks])
                for name, of in ((sampler, of_tasks), (DEFAULT, judged.get(DEFAULT, {})))
                if all(task in of and len(of[task][0]) > place for task in of_tasks)
            }
            if sampler not in values:
                break
            mean, error = mean_and_error(values[sampler])
            row: Row = {"corpus": folder.name, "sampler": sampler, **facts[sampler]}
            row |= {"tasks": len(of_tasks), "measurements": count}
            row |= {"regret": mean, "standard_error": error}
            if DEFAULT in values:
                row["default"] = float(values[DEFAULT].mean())
                row["more"], row["more_standard_error"] = mean_and_error(
                    values[sampler] - values[DEFAULT]
                )
            yield row


def table(rows: Sequence[dict[str, str]]) -> str:
    """A line a contestant: regret by measurements, and that of the default on fewer tasks."""
    counts = sorted({int(row["measurements"]) for row in rows})
    most = max(int(row["tasks"]) for row in rows)
    lines = [["measurements", "tasks", *map(str, counts), "ms a trial"]]
    for sampler, own in grouped(list(rows), "sampler").items():
        tasks_, cells = own[0]["tasks"], {row["measurements"]: row for row in own}
        ends = [""] * (len(counts) - len(own))
        time = f"{float(own[0]['milliseconds']):.0f}"
        regret = [_short(row["regret"]) for row in own]
        lines.append([CONTESTANTS[sampler].label, tasks_, *regret, *ends, time])
        if int(tasks_) < most and all(row["default"] for row in cells.values()):
            default = [_short(row["default"]) for row in own]
            lines.append(["ours, default, on these", tasks_, *default, *ends, ""])
    return markdown(lines)


def _short(value: str) -> str:
    """Four decimals, without the zero before the point.

    >>> _short("0.0471")
    '.0471'
    """
    return f"{float(value):.4f}".removeprefix("0")


def _drawn(rows: Sequence[Row]) -> Figure:
    """Regret against measurements, a panel a corpus; on fewer tasks dotted."""
    corpora = list(dict.fromkeys(str(row["corpus"]) for row in rows))
    figure, grid = looks.panels(1, len(corpora), figsize=(4 * len(corpora), 5))
    colors = looks.colors(len(CONTESTANTS))
    for axes, corpus in zip(grid[0], corpora, strict=True):
        inside = [row for row in rows if row["corpus"] == corpus]
        most = max(int(row["tasks"]) for row in inside)
        for (sampler, contestant), color in zip(CONTESTANTS.items(), colors, strict=True):
            own = [row for row in inside if row["sampler"] == sampler]
            counts = [int(row["measurements"]) for row in own]
            # A logarithmic axis has no zero.
            means = [max(float(row["regret"]), 1e-4) for row in own]
            line = "-" if own and own[0]["tasks"] == most else ":"
            width = 2.5 if sampler == DEFAULT else 1.2
            axes.plot(counts, means, line, color=color, linewidth=width, label=contestant.label)
        looks.logarithmic(axes, ticks=BUDGETS)
        axes.set(xlabel="measurements", title=corpus)
    looks.legend(figure, grid[0, 0], "lower", columns=6)
    return figure


if __name__ == "__main__":
    main()
