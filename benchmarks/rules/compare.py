"""Which rule chooses best, and what does it gain over the paper's method?

Every task of a corpus in turn is the new one. ``--against alternatives`` lets other rules choose
from the posterior of ``bayesian``, with and without a measurement cap; ``--against paper`` compares
it with the paper's ED-MF and QR-MF. contests.py defines the measures. Written are means and
standard errors over tasks, and paired differences.

    python -m benchmarks.rules.compare [--against paper] [--corpus CSV or name] [--quick]

Without --cap, half of the configurations are above it: the cap is each task's median memory. With
--fraction, that share of the other tasks' entries, drawn uniformly, is all there is to learn from.
The rank is chosen by cross-validation; --rank gives one to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.harness import script, tasks
from benchmarks.harness.script import Results
from benchmarks.harness.tables import Row, markdown
from benchmarks.rules.contests import Alternatives, Contested, Key, Paper
from optuna_peppp.acquisition.strategies import STRATEGIES
from optuna_peppp.evaluation.leave_one_out import Evaluation
from optuna_peppp.sizes import parse_size


def main(argv: Sequence[str] | None = None) -> None:
    """Compares, writes a CSV, prints tables."""
    parser = script.parser(__doc__, "four tasks, up to six measurements")
    tasks.add_corpus(parser)
    against = ("alternatives", "paper")
    parser.add_argument("--against", choices=against, default=against[0], help="whom to compare")
    parser.add_argument("--cap", help="measurement cap, such as 816MiB; default: the median")
    parser.add_argument("--fraction", type=float, help="of the entries to learn from")
    parser.add_argument("--rank", type=int, help="of the meta-model; by default chosen")
    options = parser.parse_args(argv)
    matrix = tasks.corpus(parser, options.corpus)
    cap = None if options.cap is None else parse_size(options.cap)
    contest = Paper() if options.against == "paper" else Alternatives(cap)
    evaluation = Evaluation(matrix, STRATEGIES, fraction=options.fraction, rank=options.rank)
    rows = tasks.complete_rows(matrix)[: 4 if options.quick else None]
    contested = Contested(evaluation, contest, contest.counts[options.quick])
    values: dict[Key, dict[str, float]] = {}
    for key, task, value in tasks.over_tasks(contested, rows, options.jobs):
        values.setdefault(key, {})[task] = value
    found = [
        {**dict(zip(contest.columns, key, strict=True)), **row}
        for key, row in tasks.paired(values, contest.rivals)
    ]
    stem = Path(options.corpus).stem
    stem += f"-{100 * options.fraction:g}percent" if options.fraction else ""
    stem += f"-rank{options.rank}" if options.rank else ""
    results = Results(script.folder(options, contest.folder), stem)
    results.table(found)
    results.record({"corpus": stem, "tasks": len(rows), "cap": options.cap or "median", "seed": 0})
    print(table(found))


def table(rows: Sequence[Row]) -> str:
    """All measures as Markdown: a line a contestant and its differences, a column a count."""

    def line(row: Row) -> tuple[str, str]:
        cap = {0: ", no cap", 1: ", cap"}.get(int(row.get("cap", -1)), "")
        return f"{row['measure']}{cap}", str(row.get("rule", row.get("strategy")))

    found = sorted(rows, key=line)
    lines = [["", "", *dict.fromkeys(str(row["measurements"]) for row in rows)]]
    for names, group in groupby(found, line):
        own = list(group)
        lines.append([*names, *(f"{row['mean']:.4f}" for row in own)])
        for name in [name for name in own[0] if name.startswith(("difference", "less"))]:
            if not name.endswith("_standard_error"):
                cells = [f"{r[name]:+.4f} ± {r[f'{name}_standard_error']:.4f}" for r in own]
                lines.append(["", name.replace("_", " "), *cells])
    return markdown(lines)


if __name__ == "__main__":
    main()
